"""A batch of far images: read, hashed, decoded, embedded. Where it runs is somebody else's choice.

What it returns is small and complete, so a batch that is lost with its computer is done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def embed_far(encoder: Encoder, images: Sequence[FarImage], threads: int | None) -> FarVectors:
    """Read and embed at most `BATCH` images."""
    contents = read_images(images)
    rejects = {row: found for row, found in enumerate(contents) if isinstance(found, str)}
    sources = [
        ImageSource(str(row), data=found)
        for row, found in enumerate(contents)
        if isinstance(found, bytes)
    ]
    rows: list[int] = []
    embeddings = np.empty((0, encoder.embedding_dim), dtype=np.float32)
    for outcome in embed_stream(encoder, sources, batch_size=BATCH, threads=threads):
        if isinstance(outcome, Skipped):
            rejects[int(outcome.name)] = outcome.reason.removeprefix(f"{outcome.name}: ")
        else:
            rows = [int(source.name) for source in outcome.sources]
            embeddings = outcome.embeddings
    digests = tuple(_digest(contents[row]) for row in rows)
    return FarVectors(tuple(rows), digests, embeddings, rejects)


def embed_here(encoder: Encoder) -> Embed:
    """Return what embeds batches on this computer, one after the other."""

    def embed(batches: Batches) -> Iterator[FarVectors]:
        for images in batches:
            yield embed_far(encoder, images, None)

    return embed


def _digest(content: bytes | str) -> bytes:
    return hashlib.sha256(content if isinstance(content, bytes) else b"").digest()
