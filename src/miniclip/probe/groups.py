"""Which images belong together, for any number of reasons. It finds no reasons itself."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from miniclip.arrays import IntArray


def join_pairs(pairs: NDArray[np.int64], count: int) -> IntArray:
    """Put images together that a chain of pairs leads through.

    pairs: (M, 2) integers in [0, count). Returns (count,) int64, groups numbered from 0 in order of
    their first image.
    """
    ones = np.ones(len(pairs), dtype=bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return _in_order(connected_components(graph, directed=False)[1])


def join_groups(
    groups: Sequence[Hashable] | IntArray, *others: Sequence[Hashable] | IntArray | None
) -> IntArray:
    """Put images together that any of the groupings does, such as repeats and patients.

    groups, others: each N keys; None is passed over. Returns (N,) int64 as `join_pairs` numbers
    them.
    """
    pairs: list[tuple[int, int]] = []
    for keys in (groups, *others):
        first: dict[Hashable, int] = {}
        pairs += [
            (first.setdefault(key, row), row)
            for row, key in enumerate(keys if keys is not None else ())
        ]
    return join_pairs(np.array(pairs, dtype=np.int64).reshape(-1, 2), len(groups))


def _in_order(keys: NDArray[np.int64]) -> IntArray:
    """Renumber by first occurrence."""
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]
