"""Embed files, but only those whose content the cache does not hold; the vectors of all come back.

It streams: memory holds the vectors and a few images, however many files there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.embed import Progress, Skipped, Stream, embed_stream
from miniclip.encoder import Encoder
from miniclip.images import ImageSource
from miniclip.index.contents import Content, is_unchanged, read_contents
from miniclip.index.vector_cache import VectorCache

LOOK_UP = 256  # files per question to the cache


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
    stream: Stream = embed_stream,
) -> CachedSet:
    """Return a vector for each file: from the cache, else from the encoder, and then cached too.

    progress: called with the number of files done so far. stream: what runs the encoder. StoreError
    when the cache fails; an unreadable image raises nothing and is listed in `skipped`.
    """
    table = _Table(encoder, paths, cache, progress or (lambda _done: None))
    computed = 0
    for outcome in stream(encoder, table.missing()):
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
        # Name of a source on its way -> the key of its rows, and its content if it could be read.
        self._key_of: dict[str, tuple[bytes, Content | None]] = {}
        self._rows_of: dict[bytes, list[int]] = {}  # content on its way -> the rows it will fill

    def missing(self) -> Iterator[ImageSource]:
        """Fill what the cache holds and yield one source for every content that it does not."""
        for start in range(0, len(self._paths), LOOK_UP):
            sources = [ImageSource.of(path) for path in self._paths[start : start + LOOK_UP]]
            contents = read_contents(sources, self._cache)
            known = self._cache.load(self._model, {found.digest for found in contents if found})
            fresh: list[ImageSource] = []
            found_rows = 0
            for row, (source, content) in enumerate(zip(sources, contents, strict=True), start):
                # What cannot be read is left to the decoder.
                key = content.digest if content else os.fsencode(source.name)
                if key in known:
                    self.embeddings[row] = known[key]
                    found_rows += 1
                    continue
                if key not in self._rows_of:
                    self._key_of[source.name] = key, content
                    fresh.append(source)
                self._rows_of.setdefault(key, []).append(row)
            self._count(found_rows)
            yield from fresh

    def fill(self, sources: Sequence[ImageSource], embeddings: FloatArray) -> None:
        """Take the vectors (B, D) of a batch of sources and cache those of unchanged files."""
        vectors = {}
        for source, embedding in zip(sources, embeddings, strict=True):
            content, rows = self._arrived(source.name)
            self.embeddings[rows] = embedding
            if content and is_unchanged(source, content):
                vectors[content.digest] = embedding
        self._cache.store(self._model, vectors)

    def skip(self, skipped: Skipped) -> None:
        """Note why an image has no vector, for every file of that content."""
        _, rows = self._arrived(skipped.name)
        for row in rows:
            self.reasons[row] = Skipped(str(self._paths[row]), skipped.reason)

    def _arrived(self, name: str) -> tuple[Content | None, list[int]]:
        key, content = self._key_of.pop(name)
        rows = self._rows_of.pop(key)
        self._count(len(rows))
        return content, rows

    def _count(self, files: int) -> None:
        self._done += files
        self._progress(self._done)
