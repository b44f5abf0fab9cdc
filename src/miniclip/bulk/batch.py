"""A batch of far images: read, hashed, decoded, embedded. Where it runs is somebody else's choice.

What it returns is small and complete, so a batch that is lost with its computer is done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.bulk.far import FarImage, read_images
from miniclip.embed import Skipped, embed_stream
from miniclip.encoder import Encoder
from miniclip.images import ImageSource

BATCH = 32  # as `embed_stream`: equal batches give equal vectors


class FarVectors(NamedTuple):
    """What came of a batch of n images.

    rows: (B,) which of them have vectors; digests: B sha256 of their bytes; embeddings: (B, D)
    float32 unit rows. rejects: row -> reason, for the others.
    """

    rows: tuple[int, ...]
    digests: tuple[bytes, ...]
    embeddings: FloatArray
    rejects: dict[int, str]


Batches = Iterable[tuple[FarImage, ...]]
Embed = Callable[[Batches], Iterator[FarVectors]]  # in the order of the batches


def embed_here(encoder: Encoder, threads: int | None = None) -> Embed:
    """Return what embeds batches on this computer: the next is read and decoded meanwhile.

    threads: as for `embed_stream`.
    """

    def embed(batches: Batches) -> Iterator[FarVectors]:
        begun: dict[int, _Begun] = {}  # in the order of their numbers
        sources = _sources(batches, begun)
        for outcome in embed_stream(encoder, sources, batch_size=BATCH, threads=threads):
            if isinstance(outcome, Skipped):
                number, row = map(int, outcome.name.split())
                begun[number].rejects[row] = outcome.reason.removeprefix(f"{outcome.name}: ")
            else:
                for source, vector in zip(outcome.sources, outcome.embeddings, strict=True):
                    number, row = map(int, source.name.split())
                    begun[number].vectors[row] = vector
            while begun and (first := next(iter(begun.values()))).is_whole:
                yield first.taken(encoder.embedding_dim)
                del begun[next(iter(begun))]
        for batch in begun.values():  # of which nothing could be read
            yield batch.taken(encoder.embedding_dim)

    return embed


def embed_far(encoder: Encoder, images: tuple[FarImage, ...], threads: int | None) -> FarVectors:
    """Embed one batch of at most `BATCH` images."""
    return next(embed_here(encoder, threads)([images]))


@dataclass
class _Begun:
    """A batch while it is on its way."""

    size: int
    digests: dict[int, bytes] = field(default_factory=dict)
    vectors: dict[int, FloatArray] = field(default_factory=dict)
    rejects: dict[int, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.vectors) + len(self.rejects) == self.size

    def taken(self, dim: int) -> FarVectors:
        rows = tuple(sorted(self.vectors))
        vectors = np.array([self.vectors[row] for row in rows], dtype=np.float32).reshape(-1, dim)
        return FarVectors(rows, tuple(self.digests[row] for row in rows), vectors, self.rejects)


def _sources(batches: Batches, begun: dict[int, _Begun]) -> Iterator[ImageSource]:
    """Read batches and note them; a source is called by the numbers of its batch and its row."""
    for number, images in enumerate(batches):
        batch = begun[number] = _Begun(len(images))
        for row, content in enumerate(read_images(images)):
            if isinstance(content, str):
                batch.rejects[row] = content
            else:
                batch.digests[row] = hashlib.sha256(content).digest()
                yield ImageSource(f"{number} {row}", data=content)
