"""A server in a thread of the test, on a free port: what is tested is what is run."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from miniclip.collection import Index
from miniclip.encoder import Encoder
from miniclip.probe.model import ClassifierModel
from miniclip.serve.app import create_app
from miniclip.serve.auth import Credentials
from miniclip.serve.metrics import Metrics
from miniclip.serve.server import Server, listen
from miniclip.serve.service import Service
from miniclip.serve.settings import Settings
from miniclip.testing import FakeEncoder, picture

PATIENCE = 60.0  # seconds; a busy machine starts processes slowly


@dataclass(frozen=True)
class Running:
    """A server that answers. place: the folder of what it serves."""

    port: int
    service: Service
    server: Server
    place: Path = Path()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def http(self, **options: Any) -> httpx.Client:
        """Return a client without any opinion."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, **options)

    def raw(self, *parts: bytes, seconds: float = PATIENCE) -> bytes:
        """Send bytes over a socket and return all that comes until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:
                    break
            return read_all(connection)


@contextmanager
def running(
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    index: Index | None = None,
    models: dict[str, ClassifierModel] | None = None,
    credentials: Credentials | None = None,
    place: Path = Path(),
    pages: bool = False,
    card: str = "",
    licence: str = "",
) -> Iterator[Running]:
    """Run a server with these parts as long as the block lasts."""
    metrics = Metrics()
    service = Service(
        encoder or FakeEncoder(),
        index,
        models,
        settings,
        watch_batch=metrics.saw_batch,
        card=card,
        licence=licence,
    )
    answers = threading.Event()
    with listen(settings) as listener:
        app = create_app(service, credentials, metrics)
        if pages:
            from miniclip.serve.pages import mount  # noqa: PLC0415 - slow to load

            mount(app, service)
        server = Server(app, settings, answers.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert answers.wait(PATIENCE)
            yield Running(listener.getsockname()[1], service, server, place)
        finally:
            server.should_exit = True
            thread.join()


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def png(colour: str, size: tuple[int, int] = (32, 24)) -> bytes:
    """Return a PNG of one colour."""
    out = io.BytesIO()
    picture(colour, size).save(out, "PNG")
    return out.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """Return a JPEG."""
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def status_of(answer: bytes) -> int:
    """Return the status of a raw HTTP answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def code_of(answer: bytes) -> str:
    """Return the error code in the body of a raw HTTP answer."""
    code: str = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
    return code
