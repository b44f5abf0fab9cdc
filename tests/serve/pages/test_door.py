"""What strangers and the curious get from the routes of the pages: nothing."""

from __future__ import annotations

import gc
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

pytest.importorskip("gradio")

from miniclip.serve.auth import Credentials
from miniclip.serve.pages import disk
from miniclip.serve.settings import Settings
from tests.serve.conftest import Served
from tests.serve.running import Running, code_of, png, running, status_of

WORD = "a-word-of-24-letters-now"
TOKEN = {"Authorization": f"Bearer {WORD}"}
UPLOAD_BYTES = 50_000
SHUT = [
    "/gradio_api/openapi.json",
    "/gradio_api/info",
    "/gradio_api/call/search",
    "/gradio_api/app_id",
    "/gradio_api/token",
    "/gradio_api/proxy=http://example.org/x",
    "/gradio_api/file=http://example.org/x",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file//etc/passwd",
    "/gradio_api/stream/a/b/1/playlist.m3u8",
    "/gradio_api/deep_link",
    "/gradio_api/vibe-code",
    "/gradio_api/runs",
    "/gradio_api/dev/reload",
    "/custom_component/1/client/component/x.js",
    "/monitoring",
    "/docs",
    "/login",
    "/static/../../../etc/passwd",
]


@pytest.fixture(scope="module")
def house(served: Served) -> Iterator[Running]:
    """Serve pages to those who know the word, in small portions."""
    settings = Settings(
        port=0, upload_bytes=UPLOAD_BYTES, upload_seconds=1.5, kept_bytes=3 * UPLOAD_BYTES
    )
    word = Credentials(WORD, {})
    with running(settings, index=served.index, credentials=word, pages=True) as server:
        yield server


@pytest.fixture
def inside(house: Running) -> Iterator[httpx.Client]:
    """Ask as one who knows the word."""
    with house.http(headers=TOKEN) as http:
        yield http


def upload(http: httpx.Client, data: bytes, name: str = "red.png") -> httpx.Response:
    return http.post("/gradio_api/upload", files={"files": (name, data)})


def config(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/config").json()
    return found


def answer(http: httpx.Client, photo: Any) -> str:
    """Press the button "Match" with a photo, and return what the server streams back."""
    return do(http, "Match", "click", [photo, "red\ngreen", 2])


def do(http: httpx.Client, name: str, what: str, values: list[Any], **event: Any) -> str:
    """Press or choose what has a value or a label, and return what the server streams back."""
    pages = config(http)
    targets = [
        [one["id"], what]
        for one in pages["components"]
        if name in (one["props"].get("value"), one["props"].get("label"))
    ]
    (number,) = (
        one["id"] for one in pages["dependencies"] if any(t in one["targets"] for t in targets)
    )
    asked = {"data": values, "fn_index": number, "session_hash": "visit", **event}
    assert http.post("/gradio_api/queue/join", json=asked).status_code == 200
    return http.get("/gradio_api/queue/data?session_hash=visit").text


def test_without_the_word_there_is_nothing(house: Running) -> None:
    with house.http() as http:
        for path in ("/", "/config", "/theme.css", "/gradio_api/heartbeat/x", "/collection/map"):
            assert http.get(path).status_code == 401
        assert upload(http, png("red")).status_code == 401
        assert http.post("/gradio_api/queue/join", json={}).status_code == 401


def test_the_document_loads_from_here_and_stands_in_no_frame(inside: httpx.Client) -> None:
    page = inside.get("/")
    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert "http://" not in page.text.replace(str(inside.base_url).rstrip("/"), "").replace(
        "http://www.w3.org/", ""
    )


def test_other_sites_get_nothing(inside: httpx.Client) -> None:
    headers = {"Origin": "http://evil.example"}
    assert inside.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
    assert inside.get("/config", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", SHUT)
def test_what_no_page_needs_is_shut(house: Running, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    said = house.raw(f"{head}Authorization: {TOKEN['Authorization']}\r\n\r\n".encode())
    assert status_of(said) in {403, 404, 405}
    assert b"root:" not in said


def test_an_upload_can_be_fetched_and_nothing_beside_it(inside: httpx.Client) -> None:
    (path,) = upload(inside, png("red")).json()
    assert disk.is_kept(path)
    assert inside.get(f"/gradio_api/file={path}").content == png("red")
    for other in (f"{path}/../..", f"{path}\0", "/etc/passwd", path.replace("red", "blue")):
        assert inside.get(f"/gradio_api/file={quote(other)}").status_code in {403, 404}
    (path,) = upload(inside, b"<script>alert(1)</script>", "page.html").json()
    shown = inside.get(f"/gradio_api/file={path}")
    assert shown.headers["content-disposition"].startswith("attachment")
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_photo_is_matched_and_a_picture_of_the_server_is_not(
    inside: httpx.Client, tmp_path: Path
) -> None:
    (path,) = upload(inside, png("red")).json()
    meta = {"_type": "gradio.FileData"}
    assert "The best of 2 sentences" in answer(inside, {"path": path, "meta": meta})
    private = tmp_path / "private.png"
    private.write_bytes(png("red"))
    for other in (str(private), f"{disk.prepare()}/..{private}", f"{path}/../../../{private.name}"):
        for asked in ({"path": other, "meta": meta}, {"path": other}):
            said = answer(inside, asked)
            assert "The best" not in said
            assert "no such file" in said


def test_a_page_older_than_the_server_is_told_so(
    inside: httpx.Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = {"path": str(tmp_path / "gone.jpg"), "meta": {"_type": "gradio.FileData"}}
    chosen = {"index": 0, "value": {"image": gone, "caption": "x"}, "selected": True}
    said = do(inside, "Pictures", "select", [None], event_data=chosen)
    assert "no such file is kept here; load the page again" in said
    assert "gone.jpg" not in said
    for name in ("More like this", "Next page"):
        assert "search again" in do(inside, name, "click", [None])
    chosen["value"] = None
    assert "search again" in do(inside, "Pictures", "select", [None], event_data=chosen)
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_kept_lies_in_one_folder() -> None:
    path = disk.keep(b"x", "a.jpg")
    assert disk.is_kept(path)
    folder = disk.prepare()
    for other in ("/etc/passwd", f"{path}/../../../x", f"{folder}-2/x", f"{path}\0", "x", ""):
        assert not disk.is_kept(other)


def test_no_address_is_fetched_for_anybody(inside: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        far = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        meta = {"_type": "gradio.FileData"}
        for photo in ({"path": far, "meta": meta}, {"path": "x", "url": far, "meta": meta}):
            assert "The best" not in answer(inside, photo)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_no_picture_is_opened_in_the_server(
    inside: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = upload(inside, png("red")).json()
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("opened here"))
    meta = {"_type": "gradio.FileData"}
    assert "The best of 2 sentences" in answer(inside, {"path": path, "meta": meta})
    inline = {"path": None, "url": "data:image/png;base64,AAAA", "meta": meta}
    assert "choose a photo first" in answer(inside, inline)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_has_a_size(house: Running, inside: httpx.Client) -> None:
    assert upload(inside, bytes(UPLOAD_BYTES)).status_code == 413
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: {TOKEN['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n"
    )
    said = house.raw(f"{head}Content-Length: {1 << 30}\r\n\r\n".encode())
    assert (status_of(said), code_of(said)) == (413, "size")
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    chunks = [b"%x\r\n%s\r\n" % (len(data), data) for data in (part, *[bytes(9000)] * 9)]
    said = house.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks)
    assert status_of(said) == 413
    said = house.raw(f"{head}Content-Length: 1000\r\n\r\n".encode() + part)
    assert (status_of(said), code_of(said)) == (408, "slow")
    gc.collect()  # gradio leaves the files of uploads that break off to the collector


def test_the_disk_has_a_bound(inside: httpx.Client) -> None:
    kept = disk.prepare() / "much"
    kept.write_bytes(bytes(4 * UPLOAD_BYTES))
    try:
        refused = upload(inside, png("red"))
        assert refused.status_code == 507
        assert "come back" in refused.text
        os.utime(kept, (0, 0))
        assert upload(inside, png("red")).status_code == 200
        assert not kept.exists()  # it was old
    finally:
        kept.unlink(missing_ok=True)


def test_an_open_page_does_not_hold_the_server_up() -> None:
    with running(Settings(port=0, grace_seconds=60), pages=True) as server:
        http = server.http()
        with http.stream("GET", "/gradio_api/heartbeat/visit") as beats:
            coming = beats.iter_lines()
            next(coming)
            begun = time.monotonic()
            server.server.should_exit = True
            with suppress(httpx.HTTPError):
                list(coming)
        http.close()
    assert time.monotonic() - begun < 30


def test_a_name_is_no_path() -> None:
    path = disk.keep(b"x", "../../a/<b>\0.jpg")
    assert disk.is_kept(path)
    assert path.endswith("/ab.jpg")
    assert disk.keep(b"x", "...").endswith("/file")
    assert json.dumps(path)
