"""Rows that a head can learn from: classes as overlapping clouds, made of a seed."""

from __future__ import annotations

import numpy as np

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.probe.heads import Rows


def blobs(
    images: int = 90,
    *,
    features: int = 12,
    embedding: int = 6,
    classes: int = 3,
    apart: float = 1.5,
    seed: int = 0,
) -> tuple[Rows, IntArray]:
    """`images` rows, dealt to the classes in turn; centres are `apart` noise widths long."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    rows = []
    for size in (features, embedding):
        centres = apart * rng.standard_normal((classes, size))
        rows.append((centres[labels] + rng.standard_normal((images, size))).astype(np.float32))
    # Columns of very different size, as features of joined encoders may be.
    return Rows(
        rows[0] * np.geomspace(0.01, 100, features, dtype=np.float32), unit_rows(rows[1])
    ), labels


def named_prompts(rows: Rows, labels: IntArray, *, noise: float = 0.3, seed: int = 0) -> FloatArray:
    """One unit vector per class, near the middle of its embeddings."""
    rng = np.random.default_rng(seed)
    middles = [rows.embeddings[labels == label].mean(axis=0) for label in np.unique(labels)]
    noisy = np.array(middles) + noise * rng.standard_normal((len(middles), len(middles[0])))
    return unit_rows(noisy)
