"""Run an application on a socket until told to stop: uvicorn, with deadlines for slow clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from miniclip.errors import ConfigError
from miniclip.serve.auth import Credentials
from miniclip.serve.settings import Settings

_HEAD_BYTES = 16384
_KEEP_ALIVE_SECONDS = 30


def require_credentials(settings: Settings, credentials: Credentials | None) -> None:
    """Raise ConfigError when others could reach the server and nobody would ask who they are."""
    if not settings.loopback and credentials is None:
        raise ConfigError(
            f"on {settings.host} other computers can reach the server; give --token or "
            "--auth-file, or listen on 127.0.0.1"
        )


def listen(settings: Settings) -> socket.socket:
    """Return a listening socket; ConfigError when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(settings.connections)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another --port or --host"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where a socket can be reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application; `started` is called when it answers.

    SIGTERM and SIGINT stop it: nobody new comes in, and who is in has `grace_seconds` to end.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        started: Callable[[], Any] = lambda: None,
    ) -> None:
        class Protocol(_Deadlines):
            head_seconds = settings.head_seconds

        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.connections,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self._tell_started, self._stopping = started, app.state.stopping

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Products of small matrices get one thread each meanwhile: a second one makes none of them
        faster, and when other requests have the processors, waiting for it takes ten times as long
        as the work.
        """
        with threadpool_limits(1, user_api="blas"):
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it ends, then let requests in hand end."""
        self._stopping.set()
        await super().shutdown(sockets)


class _Deadlines(H11Protocol):
    """Closes connections whose next request does not come in time, however it dribbles in.

    uvicorn itself waits for ever for the first one. Bodies have their deadline in the gate.
    """

    head_seconds: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        else:
            self._wait_for_head()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the client does not read its answer

    def _wait_for_head(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.head_seconds, self._too_late)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self.transport.abort()
