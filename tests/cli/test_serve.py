"""The verb as a process: it says where it answers, refuses what is unsafe, and ends in peace."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi")

from miniclip.bundle import Bundle
from miniclip.cli import serve as verb
from miniclip.client import Client
from miniclip.serve.auth import Credentials, hash_line, read_people
from tests.cli.conftest import Cli


@contextmanager
def served(tiny_bundle: Bundle, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the verb; yield where it answers and its process."""
    command = [sys.executable, "-m", "miniclip", "serve", "--port", "0", "--json", *words]
    environment = {**os.environ, "MINICLIP_BUNDLE": str(tiny_bundle.directory)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()


def test_what_is_in_hand_when_it_is_told_to_stop_is_answered(
    cli: Cli, tiny_bundle: Bundle, photos: Path
) -> None:
    assert cli("index", photos).code == 0
    with served(tiny_bundle, "--index", str(photos), "--no-pages") as (url, process):
        found: list[str] = []

        def ask() -> None:
            with Client(url) as client:
                found.extend(hit.path for hit in client.search("red", [_red(photos)]).hits)

        with Client(url) as client:
            (decoder, *others) = _decoders(process.pid)
            assert client.search("red", min_confidence=0, top=1).hits[0].path == "red.png"
        for pid in (decoder, *others):  # so that the question is in hand for a while
            os.kill(pid, signal.SIGSTOP)
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        for pid in (decoder, *others):
            os.kill(pid, signal.SIGCONT)
        asking.join()
        _, log = process.communicate(timeout=60)

    assert found[0] == "red.png"
    assert process.returncode in {0, -signal.SIGTERM}
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["route"] for line in lines if line["message"] == "request"] == ["/v1/search"] * 2
    assert "red" not in log
    assert _alive([decoder, *others]) == []


def test_pages_are_at_the_door(tiny_bundle: Bundle) -> None:
    pytest.importorskip("gradio")
    with served(tiny_bundle) as (url, _), urlopen(url) as answer:
        assert 'content="miniclip"' in answer.read().decode()


def test_without_gradio_the_api_goes_on_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name == "gradio" else name)

    assert not verb._has_pages()
    assert "pip install 'miniclip[serve]'" in capsys.readouterr().err


def test_no_other_computer_without_credentials(cli: Cli) -> None:
    result = cli("serve", "--host", "0.0.0.0", "--port", "0")

    assert result.code == 1
    assert "give --token or --auth-file" in result.err


def test_a_weak_token_is_refused(cli: Cli) -> None:
    result = cli("serve", "--token", "secret")

    assert result.code == 1
    assert "at least 16" in result.err


def test_an_unknown_limit_is_refused(cli: Cli) -> None:
    result = cli("serve", "--set", "max_byte=3")

    assert result.code == 1
    assert "did you mean max_bytes?" in result.err


def test_passwords_are_kept_as_hashes(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_text(f"# who\n{hash_line('anna', 'correct horse')}\n{hash_line('bo', 'x' * 8)}\n")
    people = Credentials(people=read_people(path))

    assert "horse" not in path.read_text()
    assert people.admit(_basic("anna", "correct horse"))
    assert people.admit(_basic("anna", "correct horse"))
    assert not people.admit(_basic("anna", "x" * 8))
    assert not people.admit(_basic("eve", "correct horse"))
    assert not people.admit("Basic !!!")
    assert not people.admit(None)


def test_a_line_of_a_password_file_that_is_wrong_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_text("anna:password\n")

    result = cli("serve", "--auth-file", path)

    assert result.code == 1
    assert "line 1" in result.err
    assert "password\n" not in result.err


def _red(photos: Path) -> bytes:
    return (photos / "red.png").read_bytes()


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _decoders(parent: int) -> list[int]:
    """Return the children of a process, as /proc lists them."""
    task = Path(f"/proc/{parent}/task/{parent}/children")
    if not task.exists():
        pytest.skip("no /proc here")
    return [int(pid) for pid in task.read_text().split()]


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
