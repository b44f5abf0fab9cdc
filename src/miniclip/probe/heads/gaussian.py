"""The Gaussian kernel on features, as the heads `kernel` and `svm` use it. It fits nothing.

Features of image encoders are mostly averages of rectified activations: many small values, few
large ones. The signed square root takes the large ones down (as for Fisher vectors: Perronnin et
al. 2010, section 3.2), which was worth one point of accuracy with every kernel that we tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray

_BLOCK = 2048  # query rows at a time


def rooted(features: NDArray[np.floating]) -> FloatArray:
    """Return sign(x) * sqrt(|x|), float32, of the same shape."""
    values = np.asarray(features, dtype=np.float32)
    return np.copysign(np.sqrt(np.abs(values)), values)


def squared_distances(rows: FloatArray, others: FloatArray) -> FloatArray:
    """(N, F) and (M, F) to (N, M) float32, at least 0."""
    distances: FloatArray = rows @ others.T
    distances *= -2
    distances += (rows * rows).sum(axis=1)[:, None]
    distances += (others * others).sum(axis=1)
    np.maximum(distances, 0, out=distances)
    return distances


def gaussian(rows: FloatArray, others: FloatArray, rate: float) -> FloatArray:
    """exp(-rate * squared distance): (N, F) and (M, F) to (N, M) float32 in 0..1."""
    kernel = squared_distances(rows, others)
    kernel *= np.float32(-rate)
    return np.exp(kernel, out=kernel)


def weighted_kernels(
    rows: FloatArray, support: FloatArray, weights: NDArray[np.floating], rate: float
) -> NDArray[np.float64]:
    """gaussian(rows, support) @ weights in blocks: (N, F), (M, F), (M, C) to (N, C) float64."""
    blocks = [
        gaussian(rows[start : start + _BLOCK], support, rate) @ weights
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate([np.empty((0, weights.shape[1])), *blocks]).astype(np.float64)
