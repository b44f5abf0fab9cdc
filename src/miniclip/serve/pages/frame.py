"""What all pages share: how they tell errors, take photos and say sentences. It draws no page.

Photos stay bytes on the disk until the service decodes them in its processes. No text of a user, a
file or a caption becomes markup.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from miniclip.errors import ConfigError, ImageError
from miniclip.serve.failures import said
from miniclip.serve.logs import LOGGER
from miniclip.serve.settings import Settings

_MESSAGE_SECONDS = 12
_FAILED = "the server failed; its log says why"
_MARKUP = re.compile(r"([!-/:-@\[-`{-~])")  # what Markdown may read as more than itself


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async handler, or async generator: an error becomes a message on the page.

    What the page shows otherwise stays as it was. An error that nobody foresaw goes to the log.
    """

    @wraps(handler)
    async def answer(*values: Any, **named: Any) -> Any:
        try:
            return await handler(*values, **named)
        except Exception as error:  # the last place to turn it into a sentence
            _tell_error(error)
            return gr.skip()

    @wraps(handler)
    async def answers(*values: Any, **named: Any) -> AsyncIterator[Any]:
        try:
            async for value in handler(*values, **named):
                yield value
        except Exception as error:
            _tell_error(error)
            yield gr.skip()

    return answers if inspect.isasyncgenfunction(handler) else answer


def tell(message: str) -> None:
    """Show a sentence in the corner; call it inside a handler."""
    gr.Warning(escape(message), duration=_MESSAGE_SECONDS, title="Not done")


def _tell_error(error: Exception) -> None:
    what = said(error)
    if what.status >= 500:
        LOGGER.error("page failed", exc_info=error)
    tell(_FAILED if what.code == "internal" else what.message)


# What comes in


@dataclass(frozen=True)
class OnDisk:
    """A photo that was uploaded: an `Upload` of the service."""

    path: str
    most: int = Settings.max_bytes

    @property
    def name(self) -> str:
        """What its file is called."""
        return Path(self.path).name

    async def read(self) -> bytes:
        """Return the bytes of the file; ImageError when there are too many, or none any more."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        try:
            with open(self.path, "rb") as stream:  # noqa: PTH123
                data = stream.read(self.most + 1)
        except OSError:
            raise ImageError("the photo is not kept any more; choose it again") from None
        if len(data) > self.most:
            raise ImageError(f"the photo has more than {self.most:,} bytes; make it smaller")
        return data


def photo(label: str = "Photo", **named: Any) -> gr.Image:
    """Return a component for one photo, dropped, chosen or pasted: its handler gets a path."""
    options = {"height": 240, "sources": ["upload", "clipboard"], "buttons": [], **named}
    return gr.Image(label=label, type="filepath", image_mode=None, **options)


def photos(label: str = "Photos", **named: Any) -> gr.File:
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


# What goes out


def sentence(text: str = "") -> gr.Markdown:
    """Return a place for a sentence that screen readers read out when it changes.

    Handlers give it `plain` text.
    """
    return gr.Markdown(plain(text), elem_classes="said", latex_delimiters=[])


def picture(path: str | None, name: str, *, height: int = 200) -> gr.Image:
    """Show a picture that is called by its name."""
    return gr.Image(
        path,
        label=name,
        alt_text=name,
        height=height,
        interactive=False,
        buttons=[],
        min_width=120,
    )


class Answers(NamedTuple):
    """Where several photos are answered: a sentence, a table to download, and one row a photo."""

    summary: gr.Markdown
    download: gr.DownloadButton
    found: gr.State


def answers(before: str, show: Callable[[Any], None]) -> Answers:
    """Build that place; before: said at first. show: draws one of what `found` holds."""

    def show_all(found: Iterable[Any]) -> None:
        for one in found:
            with gr.Row(elem_classes="photo"):
                show(one)

    summary = sentence(before)
    download = gr.DownloadButton("Download as CSV", interactive=False, size="sm")
    found = gr.State(())
    gr.render(inputs=found, concurrency_limit=None)(show_all)
    return Answers(summary, download, found)


def plain(text: str) -> str:
    """Return Markdown that shows a text as it is; a new line stays one."""
    return _MARKUP.sub(r"\\\1", text).replace("\n", "  \n")


def percent(share: float | None) -> str:
    """Return 0..1 as "83 %"; a dash for None."""
    return "–" if share is None else f"{100 * share:.0f} %"
