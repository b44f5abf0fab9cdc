"""Rates of subgroups, such as the accuracy on each camera, with intervals that hold for all.

Images of one cluster (a patient, a repeated picture) share their luck, so what is counted are
*cells*: the images of one cluster in one subgroup. It names no gap and tests nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import studentized_range

from miniclip.arrays import IntArray
from miniclip.probe.intervals import CONFIDENCE, group_sums

Array = NDArray[np.float64]


class Rate(NamedTuple):
    """A mean over images: values (N,) float64 of those where counted, (N,) bool, is true.

    of: the class that it is about, if it is about one. share: whether the values lie in [0, 1].
    """

    of: str | None
    values: Array
    counted: NDArray[np.bool_]
    share: bool = True


class Cells(NamedTuple):
    """K rates, summed by cell.

    sums: (U, K, 6) float64: values, images, squares of both, their product, and 1 where there is
    an image. subgroup: (U,) int64 in [0, G).
    """

    sums: Array
    subgroup: IntArray


@dataclass(frozen=True)
class Estimates:
    """K rates of G subgroups, all (..., G, K) float64.

    value: NaN where a subgroup has no such image. images: that it is a mean of. variance: of the
    value, robust to clusters of any size (Liang and Zeger 1986); steady: the same with one
    imaginary cell of usual variance more, so that it is never 0 by luck. trials: how many
    independent images would be as uncertain (the design effect of Kish 1965).
    """

    value: Array
    images: Array
    variance: Array
    steady: Array
    trials: Array


def cells_of(rates: Sequence[Rate], cluster: IntArray, subgroup: IntArray) -> Cells:
    """Sum rates of N images by cell; cluster, subgroup: (N,) integers from 0."""
    keys = cluster * (int(subgroup.max()) + 1) + subgroup
    _, first, cell = np.unique(keys, return_index=True, return_inverse=True)
    counted = np.stack([rate.counted for rate in rates], axis=1).astype(np.float64)
    values = np.stack([np.where(rate.counted, rate.values, 0.0) for rate in rates], axis=1)
    hits, images = group_sums(values, cell), group_sums(counted, cell)
    columns = (hits, images, hits**2, images**2, hits * images, images > 0)
    return Cells(np.stack(columns, axis=-1).astype(np.float64), subgroup[first])


def estimate(totals: Array) -> Estimates:
    """Estimate rates from cells summed by subgroup, (..., G, K, 6)."""
    hits, images, hits2, images2, product, cells = np.moveaxis(totals, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = hits / images
        spread = np.maximum(hits2 - 2 * value * product + value**2 * images2, 0)
        pooled = hits.sum(axis=-2, keepdims=True) / images.sum(axis=-2, keepdims=True)
        squares = hits2 - 2 * pooled * product + pooled**2 * images2
        usual = squares.sum(axis=-2, keepdims=True) / cells.sum(axis=-2, keepdims=True)
        sampled = spread * cells / np.maximum(cells - 1, 1)
        variance = sampled / images**2
        trials = np.where(variance > 0, value * (1 - value) / variance, images**2 / images2)
    return Estimates(
        value, images, variance, (sampled + usual) / images**2, np.clip(trials, 1, images)
    )


def by_subgroup(cells: Cells, subgroups: int) -> Estimates:
    """Estimate the K rates of G subgroups: (G, K)."""
    totals = np.zeros((subgroups, *cells.sums.shape[1:]))
    np.add.at(totals, cells.subgroup, cells.sums)
    return estimate(totals)


class Ends(NamedTuple):
    """Lower and upper ends of intervals, float64."""

    low: Array
    high: Array


def simultaneous(found: Estimates, shares: bool, *, families: int = 1) -> Ends:
    """Give intervals (G, K) that hold for all subgroups at once with 95 % confidence (Bonferroni).

    So the least of G rates lies between the least lower and the least upper end, although it was
    picked. families: over how many such sets of subgroups the promise is to hold. Shares: the score
    interval of Wilson (1927); else normal.
    """
    subgroups = np.maximum(np.isfinite(found.value).sum(axis=0), 1)
    return _ends(found, -ndtri((1 - CONFIDENCE) / 2 / subgroups / families), shares)


def differences(found: Estimates, shares: bool, *, families: int = 1) -> Ends:
    """Give intervals (G, G, K) of all differences, row minus column, that hold at once.

    Critical value: the studentised range of Tukey over the square root of 2, as Agresti et al.
    (2008), "Simultaneous confidence intervals for comparing binomial parameters", section 2. Ends:
    squares of one-sided margins added (Newcombe 1998, method 10; Zou and Donner 2008).
    """
    subgroups = np.maximum(np.isfinite(found.value).sum(axis=0), 2)
    level = 1 - (1 - CONFIDENCE) / families
    critical = [_all_pairs(level, int(count)) for count in subgroups]
    low, high = _ends(found, np.array(critical), shares)
    value = found.value
    gap = value[:, None] - value[None]
    below, above = value - low, high - value
    return Ends(
        gap - np.sqrt(below[:, None] ** 2 + above[None] ** 2),
        gap + np.sqrt(above[:, None] ** 2 + below[None] ** 2),
    )


@lru_cache
def _all_pairs(level: float, count: int) -> float:
    """Return how many deviations every one of `count` independent normals is from another."""
    return float(studentized_range.ppf(level, count, np.inf) / np.sqrt(2))


def _ends(found: Estimates, critical: Array, shares: bool) -> Ends:
    if not shares:
        margin = critical * np.sqrt(found.steady)
        return Ends(found.value - margin, found.value + margin)
    return wilson(found.value, found.trials, critical)


def wilson(share: Array, trials: Array, critical: Array) -> Ends:
    """Score interval of a share (Wilson 1927)."""
    square = critical**2 / trials
    centre = (share + square / 2) / (1 + square)
    margin = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return Ends(np.maximum(centre - margin, 0), np.minimum(centre + margin, 1))
