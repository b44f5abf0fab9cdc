"""Ranks, the scores made of ranks, and bootstrap intervals. It reads no files and knows no model.

A *rank* here is 0-based: how many wrong answers come before the right one. Ties count against us,
and two cosines closer than `TIE` are a tie, since float32 sums differ by about that much from one
matrix product to the next. A score that is not a number counts against us as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError, DatasetError

TIE = 1e-6
_BLOCK_CELLS = 1 << 22  # 16 MiB of float32 scores at a time, whatever N and M


class Ranks(NamedTuple):
    """0-based ranks of the best positive, both ways.

    text_to_image: (M,) int64, for each text the number of other images at or above its own.
    image_to_text: (N,) int64, for each image the number of other images' texts at or above the
        best of its own; the image's other captions are neither ahead nor behind.
    """

    text_to_image: IntArray
    image_to_text: IntArray


class Interval(NamedTuple):
    """The two ends of a confidence interval, in the unit of the score."""

    low: float
    high: float


def retrieval_ranks(image: FloatArray, text: FloatArray, image_of_text: IntArray) -> Ranks:
    """Rank every image for every text and the other way round, with any number of texts per image.

    image: (N, D) float32 unit rows. text: (M, D) float32 unit rows. image_of_text: (M,) integers
    in [0, N), the image that each text belongs to. Scores are computed in blocks, so memory stays
    at tens of MiB for 25,000 texts x 5,000 images. Raises DatasetError when an image has no text
    or a text no image.
    """
    owners = np.asarray(image_of_text, dtype=np.int64)
    _check_pairs(len(image), len(text), owners)
    text_to_image = np.empty(len(text), dtype=np.int64)
    for block in _blocks(rows=len(text), columns=len(image)):
        text_to_image[block] = label_ranks(text[block] @ image.T, owners[block])
    image_to_text = np.empty(len(image), dtype=np.int64)
    for block in _blocks(rows=len(image), columns=len(text)):
        scores = image[block] @ text.T
        own = owners == np.arange(block.start, block.stop)[:, None]
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        image_to_text[block] = (~(scores < best - TIE) & ~own).sum(axis=1)
    return Ranks(text_to_image, image_to_text)


def label_ranks(scores: FloatArray, labels: IntArray) -> IntArray:
    """For each row the number of wrong columns at or above the right one.

    scores: (N, C) float32 cosines. labels: (N,) integers in [0, C). Returns (N,) int64; top-k
    accuracy is `recall_at` of it. Give cosines rather than probabilities, which may saturate
    into ties.
    """
    right = scores[np.arange(len(scores)), labels][:, None]
    # "not below" rather than "above or equal": a NaN on either side counts against us.
    ahead = ~(scores < right - TIE)
    ahead[np.arange(len(scores)), labels] = False
    counts: IntArray = ahead.sum(axis=1, dtype=np.int64)
    return counts


def recall_at(ranks: IntArray, k: int) -> float:
    """Fraction of ranks among the first k: Recall@k with one hit enough, or top-k accuracy."""
    return float(np.mean(ranks < k))


def median_rank(ranks: IntArray) -> float:
    """Median of the ranks, 1-based: 1.0 is perfect."""
    return float(np.median(ranks)) + 1.0


def mrr(ranks: IntArray) -> float:
    """Mean reciprocal rank, the mean of 1 / (1-based rank), in (0, 1]."""
    return float(np.mean(1.0 / (ranks + 1.0)))


def per_class_accuracy(ranks: IntArray, labels: IntArray, classes: int) -> NDArray[np.float64]:
    """Top-1 accuracy of each class from `label_ranks`.

    ranks, labels: (N,). Returns (C,) float64; NaN for a class without an item.
    """
    items = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=ranks == 0, minlength=classes)
    accuracy: NDArray[np.float64] = np.full(classes, np.nan)
    return np.divide(hits, items, out=accuracy, where=items > 0)


def bootstrap_interval(
    values: NDArray[Any],
    groups: IntArray | None = None,
    *,
    statistic: Literal["mean", "median"] = "mean",
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a mean or median (Efron and Tibshirani 1993, chapter 13).

    values: (M,) one number per item, such as hits (0 or 1) or ranks. groups: (M,) integers in
    [0, G), the image of each item: images are drawn with replacement and their items follow, since
    captions of one image are not independent. None: each item is its own group. Equal seeds give
    equal draws, so the intervals of several scores of one run are comparable.
    """
    if len(values) == 0 or resamples < 1:
        raise ConfigError(
            f"cannot resample {len(values)} values {resamples} times; give at least one of each"
        )
    owners = np.arange(len(values)) if groups is None else np.asarray(groups, dtype=np.int64)
    rng = np.random.default_rng(seed)
    statistic_of = _weighted_means if statistic == "mean" else _weighted_medians
    group_count = int(owners.max()) + 1
    estimates = np.concatenate(
        [
            statistic_of(
                np.asarray(values, dtype=np.float64), owners, _draw(rng, rows, group_count)
            )
            for rows in _block_sizes(resamples, max(group_count, len(values)))
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(estimates, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def _draw(rng: np.random.Generator, rows: int, groups: int) -> IntArray:
    """How often each group is drawn in each resample: (rows, G), every row sums to G."""
    drawn = rng.integers(groups, size=(rows, groups))
    drawn += np.arange(rows)[:, None] * groups
    counts: IntArray = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
    return counts


def _weighted_means(
    values: NDArray[np.float64], owners: IntArray, weights: IntArray
) -> NDArray[np.float64]:
    """Mean of the drawn items, from sums per group: weights (R, G) -> (R,)."""
    groups = weights.shape[1]
    sums = np.bincount(owners, weights=values, minlength=groups)
    sizes = np.bincount(owners, minlength=groups)
    means: NDArray[np.float64] = (weights @ sums) / np.maximum(weights @ sizes, 1)
    return means


def _weighted_medians(
    values: NDArray[np.float64], owners: IntArray, weights: IntArray
) -> NDArray[np.float64]:
    """Median of the drawn items, the two middle ones averaged: weights (R, G) -> (R,)."""
    order = np.argsort(values, kind="stable")
    seen = np.cumsum(weights[:, owners[order]], axis=1)
    total = seen[:, -1]
    middles = []
    for position in ((total + 1) // 2, total // 2 + 1):
        first = (seen >= position[:, None]).argmax(axis=1)
        middles.append(values[order][first])
    medians: NDArray[np.float64] = np.mean(middles, axis=0)
    return medians


def _check_pairs(images: int, texts: int, owners: IntArray) -> None:
    if len(owners) != texts:
        raise DatasetError(
            f"{texts} texts but {len(owners)} entries in image_of_text; give one image per text"
        )
    if texts and (owners.min() < 0 or owners.max() >= images):
        raise DatasetError(
            f"image_of_text points at image {int(owners.max())} or {int(owners.min())}, "
            f"but there are {images}; number the images from 0"
        )
    bare = np.setdiff1d(np.arange(images), owners)
    if len(bare) or not texts:
        raise DatasetError(
            f"{len(bare)} of {images} images have no text (the first: {bare[:1].tolist()}); "
            "leave them out, a rank needs at least one right answer"
        )


def _block_sizes(rows: int, columns: int) -> Iterator[int]:
    step = max(1, _BLOCK_CELLS // max(columns, 1))
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _blocks(*, rows: int, columns: int) -> Iterator[slice]:
    start = 0
    for size in _block_sizes(rows, columns):
        yield slice(start, start + size)
        start += size
