"""The rows of a matrix closest to one query: exactly, or by a graph when there are very many.

Both work on the file as it is mapped, float16, without a copy in memory. Exact search multiplies by
the SIMD kernels of numkong, which usearch is made of, block by block in a few threads; the best few
are then multiplied again in float64, so that neither the order nor the cosines depend on rounding
inside a kernel. The graph (HNSW, Malkov and Yashunin 2018) is usearch's. Rows are numbered by their
slot; which image a slot belongs to is the business of the store.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numkong
import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.cpus import usable_cpus
from miniclip.index.blocks import BLOCK, in_blocks, reached_by
from miniclip.index.vector_matrix import HalfArray

if TYPE_CHECKING:
    from usearch.index import Index

_LOWEST = float(np.finfo(np.float32).min)  # the dead are below
_KERNEL_ERROR = 1e-4  # of a float16 product with float32 sums; measured 2e-5 at D = 513

# Of the graph. Measured on 1 million clustered rows (benchmarks/search.py): recall@10 above 0.99.
CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 256


class Found(NamedTuple):
    """Rows and their cosines, best first, equal ones by slot.

    slots: (K,) int64; cosines: (K,) float64. All rows as good as the last wanted one are there, so
    K may be more than was asked for.
    """

    slots: IntArray
    cosines: NDArray[np.float64]


def nearest_rows(
    rows: HalfArray,
    query: FloatArray,
    *,
    top: int,
    dead: IntArray | None = None,
    among: IntArray | None = None,
) -> Found:
    """Find the `top` rows closest to the query, exactly.

    rows: (N, D) float16; query: (D,) float32 unit length; dead: slots to leave out; among: the only
    slots to look at, ascending (dead ones must not be in there).
    """
    scores, error = _scores(rows, query, among)
    if among is None and dead is not None:
        scores[dead] = -np.inf
    # What is within twice the error of the last wanted score may belong before it.
    floor = max(reached_by(scores, top) - 2 * error, _LOWEST)
    candidates = np.flatnonzero(scores >= floor)
    return rescored(rows, query, candidates if among is None else among[candidates], top=top)


def rescored(rows: HalfArray, query: FloatArray, slots: IntArray, *, top: int) -> Found:
    """Rank some rows by their cosine in float64; keep the `top` best and all equal to the last."""
    exact_query = query.astype(np.float64)
    cosines = np.empty(len(slots))
    for start in range(0, len(slots), BLOCK):
        block = slice(start, start + BLOCK)
        # Row by row the same sum, unlike a matrix product: equal rows get equal cosines.
        with np.errstate(invalid="ignore"):  # damaged rows, see below
            cosines[block] = (rows[slots[block]] * exact_query).sum(axis=1)
    _put_first(cosines)
    if len(slots) > top:
        kept = cosines >= np.partition(cosines, -top)[-top]
        slots, cosines = slots[kept], cosines[kept]
    order = np.lexsort((slots, -cosines))
    return Found(slots[order], np.clip(cosines[order], -1.0, 1.0))


def _scores(rows: HalfArray, query: FloatArray, among: IntArray | None) -> tuple[FloatArray, float]:
    """Cosines (N,) or (len(among),) float32, and by how much they may be wrong."""
    half = query.astype(np.float16)[None]
    scores = np.empty(len(rows) if among is None else len(among), dtype=np.float32)

    def score(part: slice) -> None:
        block = rows[part] if among is None else rows[among[part]]
        scores[part] = np.asarray(numkong.cdist(block, half, "dot"))[:, 0]

    in_blocks(len(scores), score)
    _put_first(scores)
    return scores, float(np.linalg.norm(query - half[0].astype(np.float32))) + _KERNEL_ERROR


def _put_first(scores: NDArray[np.floating[Any]]) -> None:
    """Rank rows that hold no numbers before all others, where the store sees that they are damaged.

    Anywhere else they would be in the way of comparisons, and unseen.
    """
    scores[~np.isfinite(scores)] = np.inf


class Graph:
    """An HNSW graph over the first rows of a matrix, mapped from its file.

    `covered`: the number of rows it was made from; later ones must be searched exactly.
    """

    def __init__(self, index: Index, covered: int) -> None:
        self._index = index
        self._one_at_a_time = threading.Lock()  # usearch gives each of its own threads one context
        self.covered = covered

    @classmethod
    def view(cls, path: Path, *, covered: int, dim: int) -> Graph:
        """Map a file that `build` wrote and the store has checked; nothing is loaded."""
        index = _empty(dim)
        index.view(str(path))
        return cls(index, covered)

    @staticmethod
    def build(
        rows: HalfArray, path: Path, *, dead: IntArray, extend: tuple[Path, int] | None = None
    ) -> None:
        """Write a graph over all rows but dead ones.

        extend: another graph and the number of rows it covers, to which the rest is added.
        """
        index = _empty(rows.shape[1])
        if extend:
            index.load(str(extend[0]))
        slots = np.setdiff1d(np.arange(extend[1] if extend else 0, len(rows)), dead)
        for start in range(0, len(slots), BLOCK):
            part = slots[start : start + BLOCK]
            index.add(part.astype(np.uint64), rows[part], threads=usable_cpus())
        index.save(str(path))

    def candidates(self, query: FloatArray, count: int) -> IntArray:
        """Return up to `count` slots that are probably the closest to the query (D,)."""
        with self._one_at_a_time:
            found = self._index.search(query.astype(np.float16), count, threads=1)
        slots: IntArray = found.keys.astype(np.int64)
        return slots


def _empty(dim: int) -> Index:
    from usearch.index import Index  # noqa: PLC0415 - slow to import, and seldom needed

    return Index(
        ndim=dim,
        metric="ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )
