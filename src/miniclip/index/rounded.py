"""Rows rounded to int8: half the bytes to read, and a search that stays exact.

A process that asks again and again keeps a copy of the rows in memory, each as int8 times a scale.
A query is multiplied with these, by the kernels that newer processors have for 8-bit numbers. How
far a product may be from the cosine is known for every row (Cauchy-Schwarz over what rounding took
away), so the few rows that may be among the best are found without missing one; `nearest` then
ranks them by the rows themselves. Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numkong
import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.index.blocks import in_blocks, reached_by
from miniclip.index.vector_matrix import HalfArray

ROUND_FROM = 16384  # rows; fewer are searched in less than a millisecond as they are
_LEVELS = 127
_LENGTH = (
    1.01  # of a row at most, rounded or not: the store takes unit rows, and float16 keeps them
)
_SUM_ERROR = 1e-5  # of float32 arithmetic on the scores


@dataclass(frozen=True)
class RoundedRows:
    """The first N rows of a matrix.

    codes: (N, D) int8; scale: (N,) float32, row = scale * codes + rest; rest: (N,) float32, the
    length of what is missing, infinite for a row that holds no numbers.
    """

    codes: NDArray[np.int8]
    scale: FloatArray
    rest: FloatArray

    @classmethod
    def of(cls, rows: HalfArray) -> RoundedRows:
        """Round rows (N, D) float16 of unit length."""
        codes = np.empty(rows.shape, dtype=np.int8)
        scale, rest = np.empty((2, len(rows)), dtype=np.float32)

        def fill(part: slice) -> None:
            codes[part], scale[part], rest[part] = _rounded(rows[part].astype(np.float32))

        in_blocks(len(rows), fill)
        return cls(codes, scale, rest)

    def __len__(self) -> int:
        return len(self.codes)

    def candidates(
        self, query: FloatArray, top: int, *, dead: IntArray, among: IntArray | None
    ) -> IntArray:
        """Return ascending slots, the `top` rows with the largest cosines surely among them.

        query: (D,) float32 of unit length. dead: slots to leave out; among: the only ones to look
        at, ascending, without dead ones.
        """
        code, scale, rest = _rounded(query[None])
        cosines = np.empty(len(self), dtype=np.float32)

        def score(part: slice) -> None:
            products = np.asarray(numkong.cdist(self.codes[part], code, "dot"))[:, 0]
            np.multiply(products, self.scale[part] * scale, out=cosines[part])

        in_blocks(len(self), score)
        # |row.query - rounded row.rounded query| <= |rest of row| |query| + |rounded row| |rest|
        error = self.rest * _LENGTH + (_LENGTH * float(rest[0]) + _SUM_ERROR)
        if among is not None:
            cosines, error = cosines[among], error[among]
        at_least = cosines - error
        at_most = cosines + error
        if among is None:
            at_least[dead] = at_most[dead] = -np.inf
        found = np.flatnonzero((at_most >= reached_by(at_least, top)) & (at_most > -np.inf))
        return found if among is None else among[found]


def _rounded(rows: FloatArray) -> tuple[NDArray[np.int8], FloatArray, FloatArray]:
    """Round rows (n, D): codes (n, D), scales (n,), and lengths of the rest (n,)."""
    largest = np.abs(rows).max(axis=1)
    whole = np.isfinite(largest)
    scale = np.where(whole & (largest > 0), largest / _LEVELS, 1).astype(np.float32)
    if not whole.all():
        rows = np.where(whole[:, None], rows, 0)
    exact = rows / scale[:, None]
    codes = np.rint(exact)
    rest = np.sqrt(np.square(exact - codes).sum(axis=1)) * scale
    return codes.astype(np.int8), scale, np.where(whole, rest, np.inf).astype(np.float32)
