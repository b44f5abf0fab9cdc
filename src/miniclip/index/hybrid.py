"""Join rankings of different kinds (vectors, full text) into one; it makes no ranking itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

DAMPING = 60  # k of the paper; its results hardly change between 10 and 100


class Fused(NamedTuple):
    """An image and its reciprocal rank score, above 0; it orders and means nothing by itself."""

    id: int
    score: float


def fuse(rankings: Sequence[Sequence[int]], *, damping: float = DAMPING) -> list[Fused]:
    """Join rankings of ids, best first, by the sum of 1 / (k + rank), rank from 1.

    Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): ranks only, so that a
    cosine and a BM25 score need no common scale. An id that a ranking lacks gets nothing from it.
    Equal sums keep the order of the first ranking that holds them.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, identity in enumerate(ranking, start=1):
            scores[identity] = scores.get(identity, 0.0) + 1.0 / (damping + rank)
    return sorted(map(Fused._make, scores.items()), key=lambda fused: -fused.score)
