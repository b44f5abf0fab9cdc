"""A figure and how sure it is: bootstrap over groups, and exact intervals where that says too much.

Images of one group (one patient, one scene, near-duplicates) share their luck, so whole groups are
drawn with replacement; a draw is kept as weights, so that statistics are matrix products. It knows
no classifier; the scores made with it are in scores.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.metrics import Interval

Array = NDArray[np.float64]
Weights = NDArray[Any]  # (G, r) float: how often each of G groups is drawn in each of r resamples
Method = Literal["bootstrap", "exact", "predictive", "simultaneous", "jackknife"]

RESAMPLES = 1000
CONFIDENCE = 0.95
# With fewer right (or wrong) groups than this, drawing them again sees too little of what may come.
FEW = 10
_BLOCK_CELLS = 1 << 22  # 16 MiB of float32 weights at a time


@dataclass(frozen=True)
class Score:
    """A figure with its 95 % interval, both in the unit of the figure.

    method: "bootstrap" over groups, or "exact" (Clopper and Pearson 1934 on the number of groups),
    which stands in where nearly all groups are right or nearly all are wrong: a perfect score on
    300 images is no proof of a perfect classifier. "predictive": where the figure of as many new
    groups will fall, which is wider than where its long-run value lies. "simultaneous": holds for
    the largest or smallest of several figures, too, although it was picked by its size.
    "jackknife": for figures that repeated images would distort.
    """

    value: float
    interval: Interval
    method: Method = "bootstrap"

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.interval.low:.2%}, {self.interval.high:.2%}]"


def share(
    hits: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """Score the mean of values between 0 and 1, such as hits: accuracy, coverage, error.

    hits: (N,) bool or numbers in [0, 1]. groups: (N,) integers; None: each image is its own.
    Raises ConfigError for no values.
    """
    group, count = number_groups(groups, len(hits))
    sums = group_sums(np.stack([np.asarray(hits, np.float64), np.ones(len(hits))], axis=1), group)
    drawn = bootstrap(
        lambda weights: {"sums": weights.T @ sums}, count, seed=seed, resamples=resamples
    )["sums"]
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    return bounded(value, drawn[:, 0] / drawn[:, 1], count)


def bounded(value: float, drawn: Array, trials: float, *, few: float = FEW) -> Score:
    """Put the interval to a figure between 0 and 1, from its bootstrap (R,) or exactly.

    trials: the number of groups that the figure is made of. The exact interval takes over when
    fewer than `few` of them are on the rarer side; groups that weigh very differently count as
    fewer, as many as would vary so much (the design effect of Kish 1965). Draws that are NaN, in
    which the figure does not exist, are left out.
    """
    drawn = drawn[np.isfinite(drawn)]
    variance = float(drawn.var()) if len(drawn) else 0.0
    if variance > 0:
        trials = min(trials, max(value * (1 - value) / variance, 1.0))
    if variance == 0 or min(value, 1 - value) * trials < few:
        return Score(value, exact_interval(value * trials, trials), "exact")
    low, high = percentiles(drawn)
    return Score(value, Interval(min(low, value), max(high, value)))


def exact_interval(successes: float, trials: float, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson (1934) interval of a share; holds for every share and few trials.

    successes: in [0, trials], need not be whole (weighted images). trials: > 0.
    """
    tail = (1 - confidence) / 2
    failures = max(trials - successes, 0.0)
    low = betaincinv(successes, failures + 1, tail) if successes > 0 else 0.0
    high = betaincinv(successes + 1, failures, 1 - tail) if failures > 0 else 1.0
    return Interval(float(low), float(high))


def percentiles(drawn: Array, confidence: float = CONFIDENCE) -> Interval:
    """Percentile interval of bootstrap estimates (Efron and Tibshirani 1993, chapter 13)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high))


def number_groups(groups: NDArray[Any] | None, items: int) -> tuple[IntArray, int]:
    """Renumber groups from 0: (N,) int64 and their number G. None: each item is its own group."""
    if items == 0:
        raise ConfigError("there is nothing to score: 0 images; give at least one")
    if groups is None:
        return np.arange(items), items
    if len(groups) != items:
        raise ConfigError(f"{items} images but {len(groups)} groups; give one group for each image")
    names, numbers = np.unique(groups, return_inverse=True)
    return numbers.astype(np.int64), len(names)


def group_sums(columns: NDArray[Any], group: IntArray) -> NDArray[Any]:
    """Sum the rows of each group: (N, S) and (N,) in [0, G), every group used -> (G, S)."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sums: NDArray[Any] = np.add.reduceat(columns[order], starts, axis=0)
    return sums


def bootstrap(
    figures: Callable[[Weights], Mapping[str, NDArray[Any]]],
    groups: int,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Array]:
    """Compute figures on resamples of G groups, a block of resamples at a time.

    figures: takes weights (G, r), how often each group is drawn in each of r resamples, and
    returns arrays (r, ...) by name. Returns them for all resamples, (R, ...) float64. Equal seeds
    give equal draws.
    """
    if resamples < 1:
        raise ConfigError(f"cannot resample {resamples} times; give at least 1")
    blocks = [figures(weights) for weights in _draws(groups, seed, resamples)]
    return {
        name: np.concatenate([block[name] for block in blocks]).astype(np.float64)
        for name in blocks[0]
    }


def _draws(groups: int, seed: int, resamples: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_CELLS // groups)
    for start in range(0, resamples, step):
        columns = min(step, resamples - start)
        drawn = rng.integers(groups, size=(groups, columns))
        drawn *= columns
        drawn += np.arange(columns)
        counts = np.bincount(drawn.ravel(), minlength=groups * columns)
        yield counts.reshape(groups, columns).astype(np.float32)
