"""What may be decided without a person: risk against coverage, and a threshold for a target error.

An image is automatic when its calibrated confidence reaches the threshold. The images that choose
the threshold are not the ones that say what it brings: those figures are cross-validated. It looks
at confidences and hits only, not at images or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import betabinom

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.metrics import Interval
from miniclip.probe.intervals import (
    Array,
    Score,
    Weights,
    bootstrap,
    group_sums,
    number_groups,
    percentiles,
    share,
)

NEVER = 2.0  # a threshold that no confidence reaches
FOLDS = 10
# What a count of errors is worth when the threshold was chosen to hit it: less than itself. Found
# by simulation, see tests/probe/test_abstain.py.
_WORTH = 0.7
_CHOICES = 400  # resamples in which the threshold is chosen anew
_STEPS = 500


@dataclass(frozen=True)
class RiskCoverage:
    """Points of the curve, from the surest images on, one for each distinct confidence.

    threshold, coverage, error: (P,) float64. coverage: share of images at or above the threshold;
    error: share of wrong ones among those. aurc: mean error over all coverages (Geifman and
    El-Yaniv 2017), images of equal confidence in no particular order; lower is better.
    """

    threshold: Array
    coverage: Array
    error: Array
    aurc: float


@dataclass(frozen=True)
class Decision:
    """A threshold on the confidence and what it brings on images that did not choose it.

    threshold: automatic from here on; `NEVER` when no choice keeps the target. automatic: share
    decided without a person, its interval with the luck of choosing the threshold. error: share of
    wrong ones among those, with the interval in which the error of as many new images falls 19
    times of 20; [0, 1] where nothing is automatic.
    """

    target_error: float
    threshold: float
    automatic: Score
    error: Score


def risk_coverage(confidence: NDArray[Any], correct: NDArray[Any]) -> RiskCoverage:
    """Walk from the surest image down: (N,) confidences in [0, 1], (N,) bool -> the curve."""
    number_groups(None, len(confidence))  # refuses nothing at all
    levels, images, wrong = _levels(confidence, correct)
    seen, lost = np.cumsum(images), np.cumsum(wrong)
    # Within a level the errors lie spread evenly: mean over k of (errors before + their share) / k.
    place = np.arange(1, len(confidence) + 1)
    level = np.repeat(np.arange(len(levels)), images)
    spread = np.cumsum((wrong / images)[level])
    return RiskCoverage(
        threshold=levels,
        coverage=seen / len(confidence),
        error=lost / seen,
        aurc=float((spread / place).mean()),
    )


def choose_threshold(
    confidence: NDArray[Any],
    correct: NDArray[Any],
    target_error: float,
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
) -> Decision:
    """Decide as much as possible without a person at an error of at most `target_error`.

    confidence: (N,) calibrated probabilities of held-out images. correct: (N,) bool. groups: (N,)
    images that share their luck; None: each by itself. The threshold is the lowest one at which
    (errors + 1) / (images + 1) is within the target: counting one error that has not come yet keeps
    a lucky stretch among few images from deciding. Raises ConfigError for a target outside (0, 1).
    """
    if not 0 < target_error < 1:
        raise ConfigError(f"the target error is {target_error}; give a share above 0 and below 1")
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    group, count = number_groups(groups, len(confidence))
    automatic = np.zeros(len(confidence), dtype=bool)
    fold_of = np.random.default_rng(seed).permutation(count)[group] % min(FOLDS, count)
    for fold in np.unique(fold_of) if count > 1 else ():
        inside = fold_of == fold
        threshold = _threshold(confidence[~inside], correct[~inside], target_error)
        automatic[inside] = confidence[inside] >= threshold
    counted = share(automatic, group, seed=seed)
    low, high = percentiles(_chosen_shares(confidence, correct, target_error, group, seed))
    ends = Interval(min(low, counted.interval.low), max(high, counted.interval.high))
    return Decision(
        target_error=target_error,
        threshold=_threshold(confidence, correct, target_error),
        automatic=Score(counted.value, ends, counted.method),
        error=_error_score(~correct & automatic, automatic, group),
    )


def _threshold(confidence: Array, correct: NDArray[np.bool_], target_error: float) -> float:
    levels, images, wrong = _levels(confidence, correct)
    within = _last_within(images[:, None], wrong[:, None], target_error)[0]
    return float(levels[within]) if within >= 0 else NEVER


def _last_within(images: NDArray[Any], wrong: NDArray[Any], target_error: float) -> IntArray:
    """Find the last level at which the target is kept: counts (L, r) a level -> (r,), -1: none."""
    seen, lost = np.cumsum(images, axis=0), np.cumsum(wrong, axis=0)
    kept = lost + 1 <= target_error * (seen + 1)
    last: IntArray = np.where(kept.any(axis=0), len(kept) - 1 - kept[::-1].argmax(axis=0), -1)
    return last


def _levels(
    confidence: NDArray[Any], correct: NDArray[Any]
) -> tuple[Array, IntArray, NDArray[np.float64]]:
    """Distinct confidences, falling; how many images each has, and how many wrong ones."""
    levels, level = np.unique(-np.asarray(confidence, np.float64), return_inverse=True)
    images, wrong = np.bincount(level), np.bincount(level, weights=~np.asarray(correct, bool))
    return -levels, images.astype(np.int64), wrong.astype(np.float64)


def _chosen_shares(
    confidence: Array, correct: NDArray[np.bool_], target_error: float, group: IntArray, seed: int
) -> Array:
    """Choose the threshold anew in each resample of groups: shares of automatic images, (R,).

    Among `_STEPS` steps of equally many images at most, which is fine enough for an interval.
    """
    falling = np.searchsorted(np.sort(-confidence), -confidence)  # how many are surer, (N,)
    step = falling * min(_STEPS, len(confidence)) // len(confidence)
    shape = (int(step.max()) + 1, int(group.max()) + 1)
    images, wrong = (
        csr_array((ones.astype(np.float32), (step, group)), shape)
        for ones in (np.ones_like(confidence), ~correct)
    )

    def shares(weights: Weights) -> dict[str, NDArray[Any]]:
        drawn = images @ weights
        last = _last_within(drawn, wrong @ weights, target_error)
        seen = np.cumsum(drawn, axis=0)
        return {"share": np.where(last >= 0, seen[last, np.arange(len(last))], 0) / seen[-1]}

    return bootstrap(shares, shape[1], seed=seed, resamples=_CHOICES)["share"]


def _error_score(wrong: NDArray[np.bool_], automatic: NDArray[np.bool_], group: IntArray) -> Score:
    """Share of wrong ones among automatic images, and where that of as many new ones will fall.

    The number of groups that go wrong again is beta-binomial: Jeffreys' prior, and the errors that
    were counted. Groups that weigh very differently count as fewer (the design effect, Kish 1965).
    """
    if not automatic.any():
        return Score(0.0, Interval(0.0, 1.0), "predictive")
    decided, lost = group_sums(np.stack([automatic, wrong], axis=1).astype(np.float64), group).T
    rate = float(lost.sum() / decided.sum())
    variance = float(np.square(lost - rate * decided).sum() / decided.sum() ** 2)
    trials = float((decided > 0).sum())
    if variance > 0:
        trials = min(trials, rate * (1 - rate) / variance)
    trials = max(round(trials), 1)
    prior = np.array([rate, 1 - rate]) * trials * _WORTH + 0.5
    low, high = betabinom.ppf([0.025, 0.975], trials, *prior) / trials
    return Score(rate, Interval(min(float(low), rate), max(float(high), rate)), "predictive")
