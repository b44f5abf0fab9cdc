"""Made-up score tables of classifiers with known faults."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray


def score_table(
    images: int, classes: int = 6, *, edge: float = 3.0, seed: int = 0
) -> tuple[NDArray[np.float64], IntArray]:
    """Logits (N, C) that are calibrated as they stand, and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, classes)) * 1.5
    scores[np.arange(images), rng.integers(classes, size=images)] += edge * rng.gamma(
        2, size=images
    )
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (rng.random((images, 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
    return scores, np.minimum(labels, classes - 1)
