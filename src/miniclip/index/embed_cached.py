"""Embed files, but only those whose content the cache does not hold; the vectors of all come back.

It streams: memory holds the vectors and a few images, however many files there are.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.embed import Progress, Skipped, embed_stream
from miniclip.encoder import Encoder
from miniclip.images import ImageSource
from miniclip.index.vector_cache import FileState, VectorCache

LOOK_UP = 256  # files per question to the cache
SETTLED_NS = 2_000_000_000  # a file younger than this may change again within its time stamp


@dataclass(frozen=True)
class CachedSet:
    """The vectors of a list of files.

    paths: the N readable files, in the order given; embeddings: (N, D) float32 unit rows;
    skipped: the unreadable files and why; computed: how many images were run through the model.
    """

    paths: tuple[Path, ...]
    embeddings: FloatArray = field(repr=False)
    skipped: tuple[Skipped, ...]
    computed: int


def embed_cached(
    encoder: Encoder,
    paths: Sequence[Path],
    cache: VectorCache,
    *,
    progress: Progress | None = None,
) -> CachedSet:
    """Return a vector for each file: from the cache, else from the encoder, and then cached too.

    progress: called with the number of files done so far. StoreError when the cache fails; an
    unreadable image raises nothing and is listed in `skipped`.
    """
    table = _Table(encoder, paths, cache, progress or (lambda _done: None))
    computed = 0
    for outcome in embed_stream(encoder, table.missing()):
        if isinstance(outcome, Skipped):
            table.skip(outcome)
        else:
            table.fill(outcome.sources, outcome.embeddings)
            computed += len(outcome.sources)
    good = np.array([row not in table.reasons for row in range(len(paths))], dtype=bool)
    return CachedSet(
        paths=tuple(path for path, fine in zip(paths, good, strict=True) if fine),
        embeddings=table.embeddings if good.all() else table.embeddings[good],
        skipped=tuple(table.reasons[row] for row in sorted(table.reasons)),
        computed=computed,
    )


class _Table:
    """The result while it fills: row i belongs to path i; files of equal content fill together."""

    def __init__(
        self,
        encoder: Encoder,
        paths: Sequence[Path],
        cache: VectorCache,
        progress: Progress,
    ) -> None:
        self.embeddings = np.zeros((len(paths), encoder.embedding_dim), dtype=np.float32)
        self.reasons: dict[int, Skipped] = {}
        self._model = encoder.fingerprint
        self._paths = paths
        self._cache = cache
        self._progress = progress
        self._done = 0
        # Name of a source on its way -> its content, and the state in which it was hashed.
        self._key_of: dict[str, tuple[bytes, FileState | None]] = {}
        self._rows_of: dict[bytes, list[int]] = {}  # content on its way -> the rows it will fill

    def missing(self) -> Iterator[ImageSource]:
        """Fill what the cache holds and yield one source for every content that it does not."""
        for start in range(0, len(self._paths), LOOK_UP):
            paths = self._paths[start : start + LOOK_UP]
            states = [_state(path) for path in paths]
            contents = _contents(paths, states, self._cache)
            known = self._cache.load(self._model, {key for key in contents if key is not None})
            fresh: list[ImageSource] = []
            for row, (path, state, content) in enumerate(
                zip(paths, states, contents, strict=True), start
            ):
                if content in known:
                    self.embeddings[row] = known[content]
                    continue
                key = content or os.fsencode(path)  # what cannot be read is left to the decoder
                if key not in self._rows_of:
                    source = ImageSource.of(path)
                    self._key_of[source.name] = key, state
                    fresh.append(source)
                self._rows_of.setdefault(key, []).append(row)
            self._count(sum(content in known for content in contents))
            yield from fresh

    def fill(self, sources: Sequence[ImageSource], embeddings: FloatArray) -> None:
        """Take the vectors (B, D) of a batch of sources and cache them.

        Not those of files that were changed between hashing and decoding: the hash is not theirs.
        """
        vectors = {}
        for source, embedding in zip(sources, embeddings, strict=True):
            key, state, rows = self._arrived(source.name)
            self.embeddings[rows] = embedding
            if state and state == _state(Path(source.name)):
                vectors[key] = embedding
        self._cache.store(self._model, vectors)

    def skip(self, skipped: Skipped) -> None:
        """Note why an image has no vector, for every file of that content."""
        *_, rows = self._arrived(skipped.name)
        for row in rows:
            self.reasons[row] = Skipped(str(self._paths[row]), skipped.reason)

    def _arrived(self, name: str) -> tuple[bytes, FileState | None, list[int]]:
        key, state = self._key_of.pop(name)
        rows = self._rows_of.pop(key)
        self._count(len(rows))
        return key, state, rows

    def _count(self, files: int) -> None:
        self._done += files
        self._progress(self._done)


def _contents(
    paths: Sequence[Path], states: Sequence[FileState | None], cache: VectorCache
) -> list[bytes | None]:
    """Return the sha256 digest of each file; None for a file that cannot be read."""
    known = cache.recall_contents([state for state in states if state])
    contents: list[bytes | None] = []
    fresh: dict[FileState, bytes] = {}
    now = time.time_ns()
    for path, state in zip(paths, states, strict=True):
        content = (known.get(state) or _digest(path)) if state else None
        contents.append(content)
        if state and content and state not in known and now - state.mtime_ns > SETTLED_NS:
            fresh[state] = content
    if fresh:
        cache.remember_contents(fresh)
    return contents


def _state(path: Path) -> FileState | None:
    try:
        return FileState.of(path) if path.is_file() else None  # reading a pipe would never end
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None
