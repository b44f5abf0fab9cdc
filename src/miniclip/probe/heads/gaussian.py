"""The space in which features are compared, and the Gaussian kernel in it. It fits no head.

Features of image encoders are mostly averages of rectified activations: many small values, few
large ones. The signed square root takes the large ones down (as for Fisher vectors: Perronnin et
al. 2010, section 3.2), which was worth one point of accuracy with every kernel that we tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray

_BLOCK = 2048  # query rows at a time
_LATER_PART = 0.5  # weight of each part of the features but the first, whose weight is 1


class Space(NamedTuple):
    """Where features are compared: (root(x) - mean) / scale. Both (F,) float32, scale above 0."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, features: FloatArray, parts: Sequence[int] = ()) -> Space:
        """Measure the middle of the rows and the width of each part.

        parts: of the F features, as `Encoder.feature_parts`. All columns of a part are divided by
        one number, so that a later part weighs half as much in a distance as the first, however
        large its values and however many they are. (A width for each column was no better.)
        """
        roots = rooted(features)
        variance = roots.var(axis=0, dtype=np.float64)
        widths = []
        for place, part in enumerate(np.split(variance, np.cumsum(parts)[:-1].tolist())):
            weight = _LATER_PART if place else 1.0
            width = np.sqrt(part.sum() / weight) or 1.0
            widths.append(np.full(len(part), width))
        mean = roots.mean(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), np.concatenate(widths).astype(np.float32))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return `mean` and `scale`."""
        return {"mean": self.mean, "scale": self.scale}

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]]) -> Space:
        """Take `mean` and `scale` from the arrays of a head."""
        return cls(np.asarray(arrays["mean"], np.float32), np.asarray(arrays["scale"], np.float32))

    def place(self, features: FloatArray) -> FloatArray:
        """(N, F) features to (N, F) float32."""
        placed: FloatArray = (rooted(features) - self.mean) / self.scale
        return placed


def rooted(features: FloatArray) -> FloatArray:
    """Return sign(x) * sqrt(|x|), float32, of the same shape."""
    roots: FloatArray = np.copysign(np.sqrt(np.abs(features)), features).astype(np.float32)
    return roots


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
