"""What every request passes before it reaches a route, and every answer on its way out.

In this order: an id; the name by which the server was called; the origin of the page that calls;
who it is; how much is in hand; how much may come in, and how long it may take. It is plain ASGI and
reads no body: it counts what the application reads. Pages that are mounted pass it too; their
answers may take as long as they like, since they are streams of news.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from miniclip.serve.auth import Credentials
from miniclip.serve.failures import BusyError, Said, SlowError, said
from miniclip.serve.logs import FACTS, LOGGER
from miniclip.serve.metrics import Metrics
from miniclip.serve.settings import Settings, is_loopback

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_API = "/v1/"
_UPLOAD = "/gradio_api/upload"
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}
_API_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
# A document of the pages may load what comes from here and nothing else. Its styles and its start
# are inline, as gradio writes them.
_PAGE_HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    b"base-uri 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'",
}
_REFUSED_HOST = Said(
    421, "host", "the server is not known by this name; allow it with --allowed-host NAME"
)
_REFUSED_ORIGIN = Said(403, "origin", "pages of other sites may not use this server")
_REFUSED_CREDENTIALS = Said(401, "credentials", "give a token, or a name and password")


class TooLarge(Exception):  # noqa: N818 - it is caught here alone
    """The body is larger than allowed: a number of bytes."""


class SlowBody(Exception):  # noqa: N818
    """The body does not arrive in time: a number of seconds."""


class _Limits(NamedTuple):
    """What one request may take: bytes, seconds for them, seconds for the answer from then on."""

    bytes: int
    body_seconds: float
    seconds: float | None


class Gate:
    """Wraps an application."""

    def __init__(
        self, app: App, settings: Settings, credentials: Credentials | None, metrics: Metrics
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._credentials = credentials
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refused = await self._refused(scope, headers)
        if scope["type"] == "websocket":
            if refused:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send, _request_id(headers), self._settings)
        scope.setdefault("state", {})["request_id"] = visit.request_id
        try:
            if refused:
                await visit.refuse(refused)
            elif scope["path"].startswith(_API):
                await self._answer_api(scope, receive, visit, headers)
            else:
                await self._answer(scope, receive, visit, headers)
        finally:
            self._metrics.answered(visit.route, visit.method, visit.status, visit.seconds)
            visit.log()

    async def _answer_api(
        self, scope: Scope, receive: Receive, visit: _Visit, headers: dict[bytes, bytes]
    ) -> None:
        """Let the API answer, unless too many wait for it already."""
        if self._in_hand >= self._settings.requests:
            await visit.refuse(said(BusyError(1)))
            return
        self._in_hand += 1
        self._metrics.in_hand.set(self._in_hand)
        try:
            await self._answer(scope, receive, visit, headers)
        finally:
            self._in_hand -= 1
            self._metrics.in_hand.set(self._in_hand)

    async def _answer(
        self, scope: Scope, receive: Receive, visit: _Visit, headers: dict[bytes, bytes]
    ) -> None:
        """Let the application answer within its limits; what goes wrong becomes an answer too."""
        limits = self._limits(scope["path"])
        body = _Body(receive, limits)

        async def send(message: Message) -> None:
            if not body.failure:  # else the application only says that it could not read on
                await visit.send(message)

        try:
            if _length(headers) > limits.bytes:
                raise TooLarge(limits.bytes)
            async with asyncio.timeout(limits.seconds and limits.body_seconds + limits.seconds):
                await self._app(scope, body, send)
            if body.failure:
                raise body.failure
        except Exception as error:  # the last place to turn it into an answer
            await visit.fail(body.failure or error)

    def _limits(self, path: str) -> _Limits:
        settings = self._settings
        if path.startswith(_API):
            return _Limits(settings.max_bytes, settings.body_seconds, settings.timeout_seconds)
        if path.startswith(_UPLOAD):
            return _Limits(settings.upload_bytes, settings.upload_seconds, None)
        return _Limits(settings.max_bytes, settings.body_seconds, None)

    async def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> Said | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._knows(_name(host)):
            return _REFUSED_HOST
        origin = headers.get(b"origin")
        if origin is not None and _origin_host(origin) != host.lower():
            return _REFUSED_ORIGIN
        if headers.get(b"sec-fetch-site") == b"cross-site" and (
            scope["type"] == "websocket" or scope["method"] != "GET" or scope["path"] != "/"
        ):
            return _REFUSED_ORIGIN
        if self._credentials:
            header = headers.get(b"authorization", b"").decode("latin-1")
            if not header or not await asyncio.to_thread(self._credentials.admit, header):
                return _REFUSED_CREDENTIALS
        return None

    def _knows(self, name: str) -> bool:
        """Whether the server goes by this name: against pages that rebind their own name to it."""
        settings = self._settings
        if name in settings.allowed_hosts:
            return True
        if settings.loopback:
            return is_loopback(name)
        return not settings.allowed_hosts or is_loopback(name)


class _Visit:
    """One request and its answer: what was sent, when, and what the log may know."""

    def __init__(self, scope: Scope, send: Send, request_id: str, settings: Settings) -> None:
        self.request_id, self.method = request_id, scope["method"]
        self.status = 500
        self._scope, self._send, self._settings = scope, send, settings
        self._begun = time.perf_counter()
        self._started = False

    @property
    def route(self) -> str:
        """The route as it is written in the API, never as it was asked for."""
        return getattr(self._scope.get("route"), "path", None) or "other"

    @property
    def seconds(self) -> float:
        """Time since the request came."""
        return time.perf_counter() - self._begun

    async def send(self, message: Message) -> None:
        """Send a message with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            api = self._scope["path"].startswith(_API)
            there = {name.lower() for name, _ in message.get("headers", ())}
            wanted = {
                **_HEADERS,
                **(_API_HEADERS if api else _PAGE_HEADERS),
                b"x-request-id": self.request_id.encode(),
            }
            added = [(name, value) for name, value in wanted.items() if name not in there]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)

    async def refuse(self, what: Said) -> None:
        """Answer with an error."""
        self._scope["state"]["code"] = what.code
        body = json.dumps(
            {"error": {"code": what.code, "message": what.message, "request_id": self.request_id}}
        ).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if what.retry_after:
            headers.append((b"retry-after", str(what.retry_after).encode()))
        if what.status == 401:
            headers.append((b"www-authenticate", b'Basic realm="miniclip", charset="UTF-8"'))
        await self.send({"type": "http.response.start", "status": what.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def fail(self, error: Exception) -> None:
        """Answer with what went wrong; break off where an answer is half sent."""
        if isinstance(error, TooLarge):
            (most,) = error.args
            what = Said(413, "size", f"the request is too large; send at most {most:,} bytes")
        elif isinstance(error, SlowBody):
            (seconds,) = error.args
            what = Said(408, "slow", f"the request did not arrive within {seconds:g} s")
        elif isinstance(error, TimeoutError):
            what = said(SlowError("the answer took too long; ask for less at once"))
        else:
            what = said(error)
        if what.status >= 500:
            LOGGER.error(
                "request failed",
                exc_info=error,
                extra={FACTS: {"request_id": self.request_id}},
            )
        if self._started:
            raise error
        await self.refuse(what)

    def log(self) -> None:
        """Write the line of this request."""
        state = self._scope["state"]
        facts = {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "seconds": round(self.seconds, 4),
        }
        if "code" in state:
            facts["code"] = state["code"]
        if self._settings.log_content:
            query = self._scope["query_string"].decode("latin-1")
            facts |= {"path": self._scope["path"], "query": query, **state.get("content", {})}
        LOGGER.info("request", extra={FACTS: facts})


class _Body:
    """Receives for the application; counts bytes, and the seconds until all are there."""

    def __init__(self, receive: Receive, limits: _Limits) -> None:
        self._receive, self._limits = receive, limits
        self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        self._bytes = 0
        self._whole = False
        self.failure: Exception | None = None

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # which says when the client is gone
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.failure = SlowBody(self._limits.body_seconds)
            raise self.failure from None
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > self._limits.bytes:
            self.failure = TooLarge(self._limits.bytes)
            raise self.failure
        return message


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers; of one that is given twice, the first."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found.setdefault(name, value)
    return found


def _length(headers: dict[bytes, bytes]) -> int:
    """Return what the head says of the body's size; 0 if nothing, and no more than 15 digits."""
    return int(headers.get(b"content-length", b"0")[:15])


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _name(host: str) -> str:
    with suppress(ValueError):
        return (urlsplit(f"//{host}").hostname or "").lower()
    return ""


def _origin_host(origin: bytes) -> str:
    with suppress(ValueError):
        return urlsplit(origin.decode("latin-1")).netloc.lower()
    return ""
