"""What a source's bytes are: their sha256, remembered for files that do not change. No decoding."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from miniclip.images import ImageSource
from miniclip.index.vector_cache import FileState, VectorCache

SETTLED_NS = 2_000_000_000  # a file younger than this may change again within its time stamp


class Content(NamedTuple):
    """The sha256 digest (32 bytes) of a source, and for a whole file the state it was read in."""

    digest: bytes
    state: FileState | None


def read_contents(sources: Sequence[ImageSource], cache: VectorCache) -> list[Content | None]:
    """Return the content of each source, from the cache's memory where the file is unchanged.

    None for what cannot be read. Ask for a few hundred at a time.
    """
    states = [_state(source) for source in sources]
    known = cache.recall_contents([state for state in states if state])
    contents: list[Content | None] = []
    fresh: dict[FileState, bytes] = {}
    now = time.time_ns()
    for source, state in zip(sources, states, strict=True):
        digest = (state and known.get(state)) or _digest(source, state)
        contents.append(Content(digest, state) if digest else None)
        if state and digest and state not in known and now - state.mtime_ns > SETTLED_NS:
            fresh[state] = digest
    if fresh:
        cache.remember_contents(fresh)
    return contents


def digest_of(source: ImageSource) -> bytes | None:
    """Return the content of one source, always read; None for what cannot be read."""
    return _digest(source, _state(source))


def is_unchanged(source: ImageSource, content: Content) -> bool:
    """Whether the file is still in the state in which it was read; parts and bytes do not change.

    A file that changed between hashing and decoding must not be cached: the hash is not its own.
    """
    return content.state == _state(source)


def _state(source: ImageSource) -> FileState | None:
    if source.path is None or source.offset or source.size is not None:
        return None
    try:  # reading a pipe would never end
        return FileState.of(source.path) if source.path.is_file() else None
    except OSError:
        return None


def _digest(source: ImageSource, state: FileState | None) -> bytes | None:
    if source.data is not None:
        return hashlib.sha256(source.data).digest()
    assert source.path is not None  # an ImageSource has one of the two
    try:
        if state:
            return _file_digest(source.path)
        if not source.path.is_file():
            return None
        with source.path.open("rb") as stream:
            stream.seek(source.offset)
            return hashlib.sha256(stream.read(source.size)).digest()
    except OSError:
        return None


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
