"""Rank vectors by cosine against one query: exact, in numpy. It reads no folder and no cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.embed import embed_all
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource


@dataclass(frozen=True)
class Hit:
    """One image of a result; score is the cosine between its vector and the query's, -1 to 1.

    member: its name inside the archive `path`, "" for a file. confidence: that it shows what was
    asked for, 0 to 1, None where nothing can be said (see `relevance`). alike: near-duplicates of
    it that were folded into this hit, best first.
    """

    path: Path
    score: float
    member: str = ""
    confidence: float | None = None
    alike: tuple[Path, ...] = ()


def best_hits(
    paths: Sequence[Path], embeddings: FloatArray, query: FloatArray, *, top: int
) -> tuple[Hit, ...]:
    """Return the `top` images closest to the query, best first; equal scores keep their order.

    paths: N; embeddings: (N, D) float32 unit rows, row i for path i; query: (D,) float32 unit
    length. Returns min(top, N) hits. ConfigError when top is below 1.
    """
    order, scores = best_rows(embeddings, query, top=top)
    return tuple(Hit(paths[row], float(score)) for row, score in zip(order, scores, strict=True))


def best_rows(rows: FloatArray, query: FloatArray, *, top: int) -> tuple[list[int], FloatArray]:
    """Return the numbers of the `top` rows closest to the query, best first, and their cosines.

    rows: (N, D) float32 unit rows; query: (D,) float32 unit length; the cosines are (K,) float32
    with K = min(top, N). Equal cosines keep the order of the rows. ConfigError when top is below 1.
    """
    if top < 1:
        raise ConfigError(f"top is {top}; ask for at least 1 result")
    cosines = rows @ query
    order = np.argsort(-cosines, kind="stable")[:top]
    return order.tolist(), cosines[order]


def image_query(encoder: Encoder, path: Path) -> FloatArray:
    """Return the vector (D,) float32, unit length, of one image file; ImageError if unreadable."""
    result = embed_all(encoder, [ImageSource.of(path)], threads=1)
    for skipped in result.skipped:
        raise ImageError(f"{skipped.name}: {skipped.reason}")
    query: FloatArray = result.embeddings[0]
    return query
