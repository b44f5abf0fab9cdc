"""A hub on this machine: one repository over HTTP, as far as its own library asks for it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

NAME = "colours/tiny-clip"
COMMIT = "c0ffee" * 6 + "c0ff"
LARGE = (".onnx", ".safetensors")  # kept by their sha256, as by git LFS


@dataclass
class FakeHub:
    """files: of the repository; asked: paths of all requests so far; broken: files that fail.

    gated: asks for its terms to be accepted; deaf: answers nothing.
    """

    files: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    gated: bool = False
    deaf: threading.Event = field(default_factory=threading.Event)

    def fetched(self) -> set[str]:
        """Name the files whose content was asked for."""
        found = (re.fullmatch(rf"GET /{NAME}/resolve/{COMMIT}/(.+)", line) for line in self.asked)
        return {match[1] for match in found if match}


@contextmanager
def serving(directory: Path) -> Iterator[FakeHub]:
    """Serve the files of a directory as the repository `NAME` with the branch main."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    hub = FakeHub({path.relative_to(directory).as_posix(): path.read_bytes() for path in paths})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.deaf.clear()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = urlparse(self.path).path
            hub.asked.append(f"{self.command} {path}")
            while hub.deaf.is_set():
                threading.Event().wait(0.05)
            status, headers, body = _response(hub, path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler


def _response(hub: FakeHub, path: str) -> tuple[int, dict[str, str], bytes]:
    if hub.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    if match := re.fullmatch(rf"/{NAME}/resolve/{COMMIT}/(.+)", path):
        return _file(hub, match[1])
    if match := re.fullmatch(rf"/api/models/{NAME}(?:/revision/(.+))?", path):
        if match[1] not in (None, "main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        siblings = [{"rfilename": name} for name in sorted(hub.files)]
        return 200, {}, json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
    if re.fullmatch(rf"/api/models/{NAME}/tree/{COMMIT}", path):
        return 200, {}, json.dumps([_entry(*item) for item in sorted(hub.files.items())]).encode()
    return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"


def _file(hub: FakeHub, name: str) -> tuple[int, dict[str, str], bytes]:
    if name in hub.broken or name not in hub.files:
        return 418, {}, b""
    body = hub.files[name]
    return 200, {"ETag": f'"{_hash(name, body)}"', "X-Repo-Commit": COMMIT}, body


def _entry(name: str, body: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(body), "oid": _git_hash(body)}
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(body).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(body), "pointerSize": 130}
    return entry


def _hash(name: str, body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if name.endswith(LARGE) else _git_hash(body)


def _git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
