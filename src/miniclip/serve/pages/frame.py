"""What all pages share: how they tell errors, and how they take photos. It draws no page.

Photos stay bytes on the disk until the service decodes them in its processes; components of gradio
that would open them here are replaced.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from miniclip.errors import ConfigError, MiniClipError
from miniclip.serve.failures import said

TOO_LONG = 12  # seconds that a message stays


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async handler, or async generator: a MiniClipError becomes a message on the page.

    What the page shows otherwise stays as it was.
    """

    @wraps(handler)
    async def answer(*values: Any, **named: Any) -> Any:
        try:
            return await handler(*values, **named)
        except MiniClipError as error:
            tell(said(error).message)
            return gr.skip()

    @wraps(handler)
    async def answers(*values: Any, **named: Any) -> AsyncIterator[Any]:
        try:
            async for value in handler(*values, **named):
                yield value
        except MiniClipError as error:
            tell(said(error).message)
            yield gr.skip()

    return answers if inspect.isasyncgenfunction(handler) else answer


def tell(message: str) -> None:
    """Show a sentence in the corner; call it inside a handler."""
    gr.Warning(escape(message), duration=TOO_LONG, title="Not done")


@dataclass(frozen=True)
class OnDisk:
    """A photo that was uploaded: an `Upload` of the service."""

    path: str

    @property
    def name(self) -> str:
        """What its file is called."""
        return Path(self.path).name

    async def read(self) -> bytes:
        """Return the bytes of the file."""
        return await asyncio.to_thread(Path(self.path).read_bytes)


class Photo(gr.Image):
    """One photo: its handler gets a path, or None. gradio's own would decode it in this process."""

    def __init__(self, label: str, **named: Any) -> None:
        super().__init__(label=label, type="filepath", sources=["upload", "clipboard"], **named)

    def get_block_name(self) -> str:
        """Return the component of gradio that the browser shows."""
        return "image"

    def preprocess(self, payload: Any) -> str | None:
        """Pass the path on."""
        return payload.path if payload else None


def photos(label: str, **named: Any) -> gr.File:
    """Return a component for several photos: its handler gets a list of paths, or None."""
    return gr.File(
        label=label, file_count="multiple", file_types=["image"], type="filepath", **named
    )


def wanted_photo(path: str | None) -> OnDisk:
    """Return the photo of a handler; ConfigError when there is none."""
    if not path:
        raise ConfigError("choose a photo first")
    return OnDisk(path)


def lines(text: str | None) -> list[str]:
    """Return the lines of a box that say something."""
    return [line.strip() for line in (text or "").splitlines() if line.strip()]
