"""What the server refuses, and with which status; every other error keeps its own name.

BusyError           429  too much is waiting; come back after some seconds
MissingError        404  no such image, model, or no index at all
LimitError          422  more images, texts or letters than one request may hold
GoneError           499  the client has left; nobody reads the answer
DecoderDiedError    500  the process that decoded the image was killed
SlowError           503  no answer within the time allowed
"""

from __future__ import annotations

from typing import NamedTuple

from miniclip.errors import (
    ConfigError,
    DatasetError,
    ImageError,
    MiniClipError,
    StoreError,
    TokenizerError,
)


class BusyError(MiniClipError):
    """Too much is waiting; retry_after: seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy; ask again in {retry_after} s")
        self.retry_after = retry_after


class MissingError(MiniClipError):
    """What was asked for by name or number is not there."""


class LimitError(MiniClipError):
    """A request that holds more than one may."""


class GoneError(MiniClipError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__("nobody waits for the answer any more")


class DecoderDiedError(MiniClipError):
    """The process that decoded an image was killed."""


class SlowError(MiniClipError):
    """No answer within the time allowed."""


class Said(NamedTuple):
    """How an error is told to a client."""

    status: int
    code: str
    message: str
    retry_after: int | None = None


_STATUS: dict[type[MiniClipError], tuple[int, str]] = {
    BusyError: (429, "busy"),
    MissingError: (404, "missing"),
    LimitError: (422, "limit"),
    ImageError: (422, "image"),
    ConfigError: (422, "request"),
    DatasetError: (422, "data"),
    TokenizerError: (422, "text"),
    GoneError: (499, "gone"),
    DecoderDiedError: (500, "decoder"),
    SlowError: (503, "timeout"),
    StoreError: (503, "index"),
}
_OURS: dict[type[MiniClipError], str] = {
    StoreError: "the index cannot be read now; the log of the server says why"
}


def said(error: Exception) -> Said:
    """Return what a client is told of an error; nothing about the server's own files."""
    for kind, (status, code) in _STATUS.items():
        if isinstance(error, kind):
            retry = error.retry_after if isinstance(error, BusyError) else None
            return Said(status, code, _OURS.get(kind, str(error)), retry)
    return Said(500, "internal", "the server failed; its log says why, under the id of the request")
