"""Rows that a head can learn from: classes as overlapping clouds, made of a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.probe.heads import Rows


def blobs(
    images: int = 90,
    *,
    features: int = 12,
    embedding: int = 6,
    classes: int = 3,
    apart: float = 1.5,
    uneven: float = 5.0,
    seed: int = 0,
) -> tuple[Rows, IntArray]:
    """`images` rows, dealt to the classes in turn; centres are about `apart` noise widths off.

    uneven: columns are from so many times narrower to so many times wider than usual, as features
    of joined encoders may be.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    rows = []
    for size in (features, embedding):
        centres = apart * rng.standard_normal((classes, size))
        rows.append((centres[labels] + rng.standard_normal((images, size))).astype(np.float32))
    widths = np.geomspace(1 / uneven, uneven, features, dtype=np.float32)
    return Rows(rows[0] * widths, unit_rows(rows[1])), labels


def in_space(features: FloatArray, middle: NDArray[Any] | None = None) -> NDArray[Any]:
    """Place rows of one part in the space of the heads; `middle`: for the columns' means."""
    roots = np.sign(features) * np.sqrt(np.abs(features.astype(np.float64)))
    means = roots.mean(axis=0)
    middle = means if middle is None else middle
    width = np.sqrt(np.mean([np.sum((row - means) ** 2) for row in roots]))
    return np.stack([(row - middle) / width for row in roots])


def named_prompts(rows: Rows, labels: IntArray, *, noise: float = 0.3, seed: int = 0) -> FloatArray:
    """One unit vector per class, near the middle of its embeddings."""
    rng = np.random.default_rng(seed)
    middles = [rows.embeddings[labels == label].mean(axis=0) for label in np.unique(labels)]
    noisy = np.array(middles) + noise * rng.standard_normal((len(middles), len(middles[0])))
    return unit_rows(noisy)
