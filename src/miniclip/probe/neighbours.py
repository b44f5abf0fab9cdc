"""The training images that look most like others, by the cosine of their features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows

_BLOCK = 1024  # queries at a time, so that memory stays at tens of MiB


class Neighbours:
    """A set of N rows to look in, features (N, F) of any float dtype."""

    def __init__(self, features: NDArray[Any]) -> None:
        self._units = unit_rows(features)

    def nearest(
        self, queries: NDArray[Any], k: int, *, apart: tuple[IntArray, IntArray] | None = None
    ) -> tuple[IntArray, FloatArray]:
        """Return the K most similar rows of each query, best first, and their cosines.

        queries: (Q, F). apart: keys (Q,) of the queries and (N,) of the rows; rows of the query's
        own key do not count. Returns row numbers (Q, K) int64 and cosines (Q, K) float32, with K at
        most N; a cosine of -inf stands where there were not so many.
        """
        k = min(k, len(self._units))
        rows = np.empty((len(queries), k), dtype=np.int64)
        cosines = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            near = unit_rows(queries[block]) @ self._units.T
            if apart:
                near[apart[0][block, None] == apart[1]] = -np.inf
            best = np.argpartition(-near, k - 1, axis=1)[:, :k] if k < near.shape[1] else None
            found = np.tile(np.arange(k), (len(near), 1)) if best is None else best
            values = np.take_along_axis(near, found, axis=1)
            order = np.lexsort((found, -values), axis=1)
            rows[block] = np.take_along_axis(found, order, axis=1)
            cosines[block] = np.take_along_axis(values, order, axis=1)
        return rows, cosines
