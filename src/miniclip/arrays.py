"""Array types and the few operations that every floor shares; no input or output here.

Letters in shapes, everywhere in this package: B batch, N items, D embedding, F features, S side,
T tokens, C classes, K neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def unit_rows(rows: NDArray[Any]) -> FloatArray:
    """Scale each row to Euclidean length 1; a row of zeros stays zero.

    rows: (N, D) of any real dtype. Returns (N, D) float32.
    """
    rows32 = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows32, axis=-1, keepdims=True)
    scaled: FloatArray = np.divide(rows32, lengths, out=np.zeros_like(rows32), where=lengths > 0)
    return scaled
