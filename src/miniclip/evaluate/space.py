"""Formulas that say what a space of unit rows is like. Each is one number; no intervals here.

Modality gap: Liang et al. 2022, "Mind the Gap", section 2. Effective rank: Roy and Vetterli 2007,
"The effective rank: a measure of effective dimensionality", definition 1. Hubness: Radovanović et
al. 2010, "Hubs in Space", equation 1. Alignment and uniformity: Wang and Isola 2020, "Understanding
Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere", section 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray

HARDNESS = 2.0  # t of uniformity; the paper's
_BLOCK_CELLS = 1 << 22  # 16 MiB of float32 cosines at a time


def modality_gap(image: FloatArray, text: FloatArray) -> float:
    """Distance between the mean of the images (N, D) and the mean of the texts (M, D): 0 to 2."""
    gap = image.mean(axis=0, dtype=np.float64) - text.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(gap))


def effective_rank(rows: FloatArray) -> float:
    """Exponential of the entropy of the singular values as shares of their sum: 1 to min(N, D).

    rows: (N, D), here less their mean: what they have in common is no direction that tells them
    apart. 0 when all rows are equal.
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    # The singular values are the roots of the eigenvalues of the smaller Gram matrix.
    gram = centred.T @ centred if len(rows) > rows.shape[1] else centred @ centred.T
    values = np.linalg.eigvalsh(gram)
    # Below this share an eigenvalue is a rounding error.
    values = np.sqrt(values[values > len(gram) * np.finfo(np.float64).eps * max(values[-1], 0.0)])
    if not len(values) or values.sum() <= 1e-6:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def nearest(questions: FloatArray, items: FloatArray, k: int) -> IntArray:
    """Numbers of the k items with the highest cosine for each question: (Q, k), in no order.

    questions: (Q, D); items: (N, D), k <= N. Memory holds a block of cosines.
    """
    found = np.empty((len(questions), k), dtype=np.int64)
    step = max(1, _BLOCK_CELLS // len(items))
    for start in range(0, len(questions), step):
        cosines = questions[start : start + step] @ items.T
        found[start : start + step] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return found


def skewness(times: NDArray[Any]) -> float:
    """Third standardised moment of how often each item is among the k nearest: hubness.

    times: (N,) counts. 0: none is a hub more than others are the opposite; some are found by very
    many questions where it is large. 0 where all counts are equal.
    """
    far = times - times.mean()
    deviation = float(far.std())
    return float((far**3).mean() / deviation**3) if deviation > 0 else 0.0


def alignment(image: FloatArray, text: FloatArray, image_of_text: IntArray) -> float:
    """Mean squared distance between a text and its image: 0 (equal) to 4; lower is better."""
    apart = (text - image[image_of_text]).astype(np.float64)
    return float(np.square(apart).sum(axis=1).mean())


def uniformity(rows: FloatArray) -> float:
    """Log of the mean of exp(-2 d^2) over pairs of rows (N, D): -8 to 0; lower is more even.

    d: Euclidean distance. A row is not paired with itself.
    """
    kernel = uniformity_kernel(rows)
    return float(np.log(kernel.sum(dtype=np.float64) / (len(rows) * (len(rows) - 1))))


def uniformity_kernel(rows: FloatArray) -> FloatArray:
    """Return exp(-2 d^2) for every pair of unit rows, 0 for a row with itself: (N, N) float32."""
    squared = np.maximum(2 - 2 * (rows @ rows.T), 0)
    kernel: FloatArray = np.exp(-HARDNESS * squared)
    np.fill_diagonal(kernel, 0)
    return kernel


def cosine_counts(
    image: FloatArray, text: FloatArray, image_of_text: IntArray, edges: NDArray[np.float64]
) -> tuple[IntArray, IntArray]:
    """Count the cosines of matched pairs and of all others between edges (B + 1,): (B,) each."""
    own = np.einsum("md,md->m", text, image[image_of_text])
    matched, _ = np.histogram(own, edges)
    every = np.zeros(len(edges) - 1, dtype=np.int64)
    step = max(1, _BLOCK_CELLS // len(image))
    for start in range(0, len(text), step):
        every += np.histogram(text[start : start + step] @ image.T, edges)[0]
    return matched.astype(np.int64), every - matched
