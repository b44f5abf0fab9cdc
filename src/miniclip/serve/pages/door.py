"""`Door`: of all that gradio would answer, what its pages need, and nothing else.

gradio also fetches addresses for its callers, runs functions by name, and shows files by path; a
server that says "nothing leaves this machine" has none of that. It stands inside the gate.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from miniclip.serve.pages import disk

_OPEN = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/(?:static|assets)/.+"
        r"|/gradio_api/(?:startup-events|queue/data|upload_progress|heartbeat/\w+)"
    ),
    "POST": re.compile(r"/gradio_api/(?:upload|queue/join|cancel|reset)"),
}
_FILE = "/gradio_api/file="
_UPLOAD = "/gradio_api/upload"
_HEARTBEAT = "/gradio_api/heartbeat/"


class Door:
    """Wraps the application of gradio.

    kept_bytes: of all files of the pages. stopping: set when the server ends; the heartbeats, a
    stream for each open page, end then.
    """

    def __init__(self, app: ASGIApp, kept_bytes: int, stopping: asyncio.Event) -> None:
        self._app, self._kept_bytes, self._stopping = app, kept_bytes, stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 404 what no page asks for."""
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"].replace("HEAD", "GET")
            if path.startswith(_FILE):
                is_open = method == "GET" and disk.is_kept(path.removeprefix(_FILE))
            else:
                is_open = method in _OPEN and bool(_OPEN[method].fullmatch(path))
            if not is_open:
                await PlainTextResponse("there is nothing here\n", 404)(scope, receive, send)
                return
            if path == _UPLOAD and not await asyncio.to_thread(disk.has_room, self._kept_bytes):
                full = "the server keeps too many uploads; come back in an hour\n"
                await PlainTextResponse(full, 507)(scope, receive, send)
                return
            if path.startswith(_HEARTBEAT):
                receive = partial(self._until_the_end, receive)
        await self._app(scope, receive, send)

    async def _until_the_end(self, receive: Receive) -> Message:
        """Receive, or say that the client is gone once the server ends."""
        coming = asyncio.ensure_future(receive())
        end = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({coming, end}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            end.cancel()


class Document(gr.Blocks):  # type: ignore[misc]
    """The pages; a browser may name no file but those that were uploaded or shown.

    Nor does gradio open them: its own image component would decode in this process.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: Any, state: Any, *values: Any, **named: Any
    ) -> Any:
        """As of gradio, which would also fetch an address that is given for a file."""
        _refuse_others(inputs)
        for block in block_fn.inputs:
            for there in (block, state[block._id] if state and block._id in state else block):
                if isinstance(there, gr.Image):
                    there.preprocess = _path
        return await super().preprocess_data(block_fn, inputs, state, *values, **named)

    async def call_function(
        self,
        block_fn: Any,
        processed_input: Any,
        iterator: Any = None,
        requests: Any = None,
        event_id: str | None = None,
        event_data: Any = None,
        *values: Any,
        **named: Any,
    ) -> Any:
        """As of gradio, which would name the files of an event in its answer and its log."""
        _refuse_others(event_data._data if event_data else None)
        return await super().call_function(
            block_fn, processed_input, iterator, requests, event_id, event_data, *values, **named
        )


def _refuse_others(value: Any) -> None:
    """Raise for a file that is not of the folder, or not any more: the server may be a new one."""
    if not all(map(disk.is_kept, _paths(value))):
        raise gr.Error("no such file is kept here; load the page again", print_exception=False)


def _path(payload: Any) -> str | None:
    return payload.path if payload else None


def _paths(value: Any) -> Iterator[str]:
    """Yield what stands as the path of a file, however deep."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str):
            yield path
        for part in value.values():
            yield from _paths(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _paths(part)
