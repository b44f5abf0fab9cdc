"""What hostile clients send ends in a clean refusal, and leaves the server as it was."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from miniclip.client import Client, ServerError
from miniclip.serve.settings import Settings
from tests.serve.running import (
    PATIENCE,
    Running,
    code_of,
    jpeg,
    png,
    read_all,
    running,
    status_of,
)

HEAD = b"POST /v1/embed HTTP/1.1\r\nhost: localhost\r\n"
FORM = b"content-type: application/x-www-form-urlencoded\r\n"
REST = 0.6  # seconds; one that dies sooner after its start is started again after a pause
MUTATIONS = int(os.environ.get("MINICLIP_TEST_MUTATIONS", "60"))


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """Serve with limits that a test can reach."""
    settings = Settings(
        port=0,
        max_bytes=200_000,
        max_pixels=10_000,
        head_seconds=0.5,
        body_seconds=3.0,
        requests=3,
        decoders=1,
    )
    with pytest.MonkeyPatch.context() as patch, running(settings) as server:
        patch.setenv("MINICLIP_TOKEN", "not for workers")
        yield server


def lives(server: Running) -> bool:
    with server.http() as http:
        return http.get("/readyz").status_code == 200


# Bodies


def test_a_body_that_says_it_is_a_gigabyte_is_refused_before_it_comes(strict: Running) -> None:
    answer = strict.raw(
        HEAD + FORM + b"content-length: 1000000000\r\nconnection: close\r\n\r\n", b"text=a"
    )

    assert (status_of(answer), code_of(answer)) == (413, "size")


def test_a_body_without_a_length_is_counted(strict: Running) -> None:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    start = HEAD + FORM + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"

    answer = strict.raw(start, *[chunk] * 8, b"0\r\n\r\n")

    assert (status_of(answer), code_of(answer)) == (413, "size")
    assert lives(strict)


def test_a_head_that_dribbles_in_is_cut_off(strict: Running) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE) as connection:
        begun = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        stop = threading.Event()
        threading.Thread(target=dribble, args=(connection, stop)).start()
        assert read_all(connection) == b""
        stop.set()
    assert time.monotonic() - begun < PATIENCE / 2


def dribble(connection: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        try:
            connection.sendall(b"x-a: b\r\n")
        except OSError:
            return


def test_a_body_that_dribbles_in_is_refused(strict: Running) -> None:
    answer = strict.raw(HEAD + FORM + b"content-length: 100\r\nconnection: close\r\n\r\n", b"text=")

    assert (status_of(answer), code_of(answer)) == (408, "slow")


def test_a_head_without_end_is_refused(strict: Running) -> None:
    answer = strict.raw(b"GET /healthz HTTP/1.1\r\n", *[b"x-a: " + b"b" * 8000 + b"\r\n"] * 4)

    assert status_of(answer) == 400


def test_a_compressed_body_is_not_unpacked(strict: Running) -> None:
    bomb = gzip.compress(b"text=" + b"a" * 50_000_000)
    with strict.http() as http:
        headers = {"content-encoding": "gzip", "content-type": "application/x-www-form-urlencoded"}
        answer = http.post("/v1/embed", content=bomb, headers=headers)

    assert answer.status_code < 500
    assert lives(strict)


def test_too_many_requests_in_hand_are_told_when_to_come_back(strict: Running) -> None:
    slow = [
        socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE) for _ in range(3)
    ]
    for connection in slow:
        connection.sendall(HEAD + FORM + b"content-length: 100\r\n\r\ntext=")
    time.sleep(0.3)
    try:
        with strict.http() as http:
            answer = http.post("/v1/embed", data={"text": "red"})
        if answer.status_code != 429:  # a busy machine: the slow ones were gone by now
            pytest.skip("the slow requests ended first")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        for connection in slow:
            connection.close()


# Images


def bombs() -> dict[str, bytes]:
    """Pictures of many pixels in few bytes, and files that are no pictures at all."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    big = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 60_000_000, 9))
    small = png("red")
    tiff = io.BytesIO()
    Image.new("RGB", (20, 20)).save(tiff, "TIFF")
    hidden = tiff.getvalue()
    svg = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>'
    )
    return {
        "png of 3.6 gigapixels": big,
        "png with a bomb of text": small[:33] + text + small[33:],
        "tiff whose directory points at itself": hidden[:4] + struct.pack("<I", 8) + b"\xff" * 20,
        "tiff with a length of gigabytes": hidden[:8] + b"\xff\xff\xff\x7f" * 40,
        "svg that reads a file": svg,
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run",
        "zip": b"PK\x03\x04" + b"\0" * 100,
        "nothing": b"",
    }


@pytest.mark.parametrize("name", bombs())
def test_pictures_that_are_traps_are_skipped_with_a_reason(strict: Running, name: str) -> None:
    with Client(strict.url) as client:
        found = client.embed([bombs()[name], png("red")])

    assert [image.image for image in found.images][-1] == 1
    if name != "png with a bomb of text":  # it may be read: the picture is sound
        assert [entry.image for entry in found.skipped] == [0]
        assert "passwd" not in found.skipped[0].reason


def test_a_picture_beyond_the_limit_of_pixels_is_skipped(strict: Running) -> None:
    with Client(strict.url) as client:
        found = client.embed([png("red", (101, 100))])

    assert "10,100 pixels are more than the limit of 10,000" in found.skipped[0].reason


def test_damaged_uploads_are_answered_one_by_one(server: Running) -> None:
    """Flip, cut, repeat and insert bytes in real files; every one gets an answer."""
    draw = random.Random(5)
    noise = Image.effect_noise((64, 48), 80)
    originals = [jpeg(noise.convert("RGB")), *(_saved(noise, kind) for kind in KINDS)]
    with server.http() as http:
        for _ in range(0, MUTATIONS, 10):
            files = [("image", mutated(draw.choice(originals), draw)) for _ in range(10)]
            answer = http.post("/v1/embed", files=files)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert len(found["images"]) + len(found["skipped"]) == 10


KINDS = ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "PCX")


def _saved(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, kind)
    return out.getvalue()


def mutated(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 3, 30))):
        place = draw.randrange(len(found))
        match draw.randrange(4):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                del found[place : place + draw.randrange(1, 40)]
            case 2:
                found[place:place] = draw.randbytes(draw.randrange(1, 40))
            case _:
                found[place:place] = found[place : place + 100]
        found = found or bytearray(b"\0")
    return bytes(found)


# Processes


def test_a_decoder_that_is_killed_takes_one_request_along(strict: Running) -> None:
    """The one process is stopped so that a request waits for it, then killed."""
    with Client(strict.url) as client:
        assert client.embed([png("red")]).images
    (pid,) = strict.service.decoders.pids
    os.kill(pid, signal.SIGSTOP)
    failures: list[ServerError] = []

    def ask() -> None:
        with Client(strict.url) as client, pytest.raises(ServerError) as failed:
            client.embed([png("red")])
        failures.append(failed.value)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: strict.service.sight.waiting == 1)
    time.sleep(0.2)
    with Client(strict.url) as client:
        assert client.embed(texts=["red"]).texts  # others are answered meanwhile
    os.kill(pid, signal.SIGKILL)
    asking.join()

    (failure,) = failures
    assert (failure.status, failure.code) == (500, "decoder")
    assert failure.request_id
    with Client(strict.url) as client:
        assert client.embed([png("red")]).images
    assert strict.service.decoders.pids != [pid]


def test_a_new_decoder_answers_within_a_second_of_a_kill(strict: Running) -> None:
    """The best of three: a machine that does much else starts processes slowly."""
    seconds = []
    with Client(strict.url) as client:
        for _ in range(3):
            wait_until(lambda: client.embed([png("red")]).images)
            time.sleep(REST)
            (pid,) = strict.service.decoders.pids
            os.kill(pid, signal.SIGKILL)
            begun = time.monotonic()
            wait_until(lambda: sees_again(client))
            seconds.append(time.monotonic() - begun)
    assert min(seconds) < 1.0, seconds


def sees_again(client: Client) -> bool:
    with suppress(ServerError):  # asked before the death was noticed
        return bool(client.embed([png("red")]).images)
    return False


def test_a_decoder_that_hangs_is_replaced() -> None:
    settings = Settings(port=0, decoders=1, decode_seconds=4)
    with running(settings) as server, Client(server.url) as client:
        wait_until(lambda: client.embed([png("red")]).images)
        (pid,) = server.service.decoders.pids
        os.kill(pid, signal.SIGSTOP)
        found = client.embed([png("red")])
        assert found.skipped[0].reason.startswith("decoding took longer than 4 s")
        wait_until(lambda: client.embed([png("red")]).images)


def test_a_decoder_has_no_secrets_and_little_room(strict: Running) -> None:
    wait_until(lambda: strict.service.decoders.pids)
    (pid,) = strict.service.decoders.pids
    limits = Path(f"/proc/{pid}/limits")
    if not limits.exists():
        pytest.skip("no /proc here")

    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.read_text().splitlines()}

    assert rows["Max file size"] == "0"
    assert rows["Max address space"] == str(Settings().decode_bytes)
    assert b"not for workers" not in Path(f"/proc/{pid}/environ").read_bytes()


def wait_until(condition: object) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
