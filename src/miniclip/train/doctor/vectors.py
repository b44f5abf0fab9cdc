"""Checks of the embeddings of dev pairs: collapse, rank, alignment, modality gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.train.doctor.finding import Finding

MIN_ROWS = 16  # fewer say nothing about a distribution
RANK_SHARE = 0.1  # of the dimensions that N rows can span; sentence vectors of captions reach 0.6
COLLAPSED_COSINE = 0.95  # mean cosine of unrelated rows
MAX_GAP = 1.0  # CLIP itself shows about 0.8 (Liang et al. 2022, arXiv 2203.02053)
MIN_SEPARATION = 0.5  # matched minus unmatched cosine, in standard deviations


def effective_rank(rows: NDArray[np.floating]) -> float:
    """Count the dimensions that rows use: exp of the entropy of the singular values' shares.

    Roy & Vetterli 2007, definition 1.

    rows: (N, D), centred here. Returns 1 to min(N - 1, D); 0 when all rows are equal.
    """
    centred = np.asarray(rows, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    if values.sum() <= 1e-6 * len(centred):
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def check_collapse(rows: NDArray[np.floating], tower: str) -> list[Finding]:
    """Find (N, D) embeddings that all point one way, or use few dimensions; quiet for N < 16."""
    if len(rows) < MIN_ROWS:
        return []
    if not np.isfinite(rows).all():
        return [
            Finding(
                "error",
                f"The {tower} embeddings are not numbers",
                "At least one of them contains NaN or infinity.",
                "Go back to the last good checkpoint and lower the learning rate.",
            )
        ]
    units = unit_rows(rows).astype(np.float64)
    n_rows, dimensions = units.shape
    # sum of all cosines without the diagonal, from the length of the sum of the rows
    cosine = float((np.square(units.sum(axis=0)).sum() - n_rows) / (n_rows * (n_rows - 1)))
    if cosine > COLLAPSED_COSINE:
        return [
            Finding(
                "error",
                f"The {tower} embeddings have collapsed",
                f"Two unrelated ones have a mean cosine of {cosine:.3f}: the tower gives nearly "
                "the same answer for every input.",
                "Check that its inputs differ (pixels normalised once, padding masked), lower the "
                "learning rate, and make sure that the loss has negatives.",
            )
        ]
    rank, possible = effective_rank(units), min(n_rows - 1, dimensions)
    if rank < RANK_SHARE * possible:
        return [
            Finding(
                "warning",
                f"The {tower} embeddings use few dimensions",
                f"Their effective rank is {rank:.1f} of {possible} possible.",
                "Use a larger batch or more varied data, a lower weight decay, or a smaller "
                "embedding; a bottleneck in the projection head has the same effect.",
            )
        ]
    return []


def check_alignment(
    image: NDArray[np.floating], text: NDArray[np.floating], image_of_text: Sequence[int]
) -> list[Finding]:
    """Find pairs that are no closer than strangers, or two towers that live far apart.

    image (N, D), text (M, D); text j describes image image_of_text[j].
    """
    images, texts = unit_rows(image), unit_rows(text)
    own = np.asarray(image_of_text, dtype=np.int64)
    if len(images) < 16 or len(own) != len(texts):
        return []
    findings = []
    separation = _separation(images, texts, own)
    if separation < MIN_SEPARATION:
        findings.append(
            Finding(
                "error",
                "Matching pairs are no closer than strangers",
                f"Their cosine is only {separation:.2f} standard deviations above that of "
                "unrelated pairs.",
                "Check that the captions are in the order of the images: a shift by one row or a "
                "shuffle of one side looks exactly like this.",
            )
        )
    gap = float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)))
    if gap > MAX_GAP:
        findings.append(
            Finding(
                "note",
                "Images and texts live far apart",
                f"The distance between their centres is {gap:.2f} (0 is none, 2 the most, CLIP "
                "has about 0.8). Ranking within one kind is unharmed; comparing the cosines of "
                "image-image with image-text hits is not possible.",
                "Raise the temperature (a smaller logit scale) at the start, or train longer with "
                "a larger batch.",
            )
        )
    return findings


def _separation(images: FloatArray, texts: FloatArray, own: NDArray[np.int64]) -> float:
    cosines = texts @ images.T
    matched = np.zeros(cosines.shape, dtype=bool)
    matched[np.arange(len(own)), own] = True
    strangers = cosines[~matched]
    return float((cosines[matched].mean() - strangers.mean()) / max(strangers.std(), 1e-8))
