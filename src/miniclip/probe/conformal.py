"""Prediction sets that hold the true label in a promised share of cases, whatever the model.

Split conformal prediction: label scores on held-out images, the k-th smallest score of their true
labels, and for a new image every label that scores no more. The promise is about images like those,
and about the average over them; `coverage_band` says how far one data set may be from it.
After Angelopoulos and Bates 2021, "A gentle introduction to conformal prediction". It fits nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.metrics import Interval

Array = NDArray[np.float64]

METHODS = ("lac", "aps", "aps-whole", "raps", "raps-whole")
RAPS_PENALTY, RAPS_FREE = 0.01, 1  # lambda and k_reg of Angelopoulos et al. 2021
EVERY_LABEL = 1e6  # a quantile above every score: too few images to leave any label out


def conformity(
    probabilities: NDArray[Any], method: str = "lac", coins: Array | None = None
) -> Array:
    """Score each label of each image, the higher the less it conforms: (N, C) -> (N, C) float64.

    lac   the probability of all other labels (Sadinle, Lei and Wasserman 2019): smallest sets
    aps   the probability of the more likely labels and a share `coin` of its own, counted from its
          far end (Romano, Sesia and Candes 2020, with u = 1 - coin): sets that grow with doubt
    raps  aps and a penalty for every label beyond the first (Angelopoulos et al. 2021)

    coins: (N,) in [0, 1), one an image, which aps and raps need (see `coins_of`); their "-whole"
    sets differ in `prediction_sets` alone.
    """
    _check_method(method)
    probabilities = np.asarray(probabilities, np.float64)
    if method == "lac":
        # Not 1 - p, which cannot tell two images apart that are nearly certain.
        return _sum_of_others(probabilities)
    if coins is None:
        raise ConfigError(f"{method} sets need a coin for each image; see coins_of, or use lac")
    own_part: Array = np.asarray(coins, np.float64)[:, None] * probabilities
    return own_part + _before(probabilities) + _penalty(probabilities, method)


def conformal_quantiles(
    probabilities: NDArray[Any],
    labels: IntArray,
    alpha: float,
    method: str = "lac",
    *,
    per_class: bool = False,
    coins: Array | None = None,
) -> Array:
    """Find the score up to which labels enter a set: (1,) float64, or (C,) with one for each class.

    The ceil((n + 1) (1 - alpha))-th smallest score of the true labels of n held-out images, so that
    a new image's set holds its true label with a chance of at least 1 - alpha; per_class: for
    images of each class. `EVERY_LABEL` where n is too small for any promise.

    probabilities: (N, C). labels: (N,) integers in [0, C). alpha: in (0, 1), else ConfigError.
    """
    _check_alpha(alpha)
    labels = np.asarray(labels, np.int64)
    own = conformity(probabilities, method, coins)[np.arange(len(labels)), labels]
    if not per_class:
        return np.array([_quantile(own, alpha)])
    classes = np.shape(probabilities)[1]
    return np.array([_quantile(own[labels == c], alpha) for c in range(classes)])


def prediction_sets(
    probabilities: NDArray[Any],
    quantiles: NDArray[Any],
    method: str = "lac",
    *,
    coins: Array | None = None,
) -> NDArray[np.bool_]:
    """Collect the labels of each image that conform: (N, C) probabilities -> (N, C) bool.

    quantiles: (1,) or (C,), from `conformal_quantiles` with the same method. A set may be empty:
    the image is stranger to the model than the share alpha of the images that it was held against.
    aps-whole, raps-whole: all labels down to the one that reaches the quantile, so never empty and
    a little too large; they need no coins.
    """
    _check_method(method)
    probabilities = np.asarray(probabilities, np.float64)
    quantiles = np.asarray(quantiles, np.float64)
    if not method.endswith("-whole"):
        return conformity(probabilities, method, coins) <= quantiles
    better = np.where(_rank(probabilities) > 0, _penalty(probabilities, method, beyond=1), 0.0)
    sets: NDArray[np.bool_] = _before(probabilities) + better < quantiles
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def coverage_band(
    calibration: int, test: int, alpha: float, *, splits: int = 1, confidence: float = 0.99
) -> Interval:
    """Say where the coverage of `test` new images falls, as a share, when the sets are right.

    Exact for scores without ties: the number of covered images is beta-binomial with parameters
    n + 1 - l and l, where l = floor((n + 1) alpha) and n images were calibrated on (Angelopoulos
    and Bates 2021, appendix C). Ties can only raise it. splits: the band of the mean over so many
    random splits of one set of images into n and `test`: the ranks of the true labels' scores alone
    decide who is covered, so the splits are independent draws even though they share their images.
    """
    _check_alpha(alpha)
    if min(calibration, test, splits) < 1:
        raise ConfigError(
            f"no band for {calibration} and {test} images, {splits} splits; give at least 1 of each"
        )
    left_out = calibration + 1 - _order(calibration, alpha)
    if left_out < 1:
        return Interval(1.0, 1.0)
    once = betabinom.pmf(np.arange(test + 1), test, calibration + 1 - left_out, left_out)
    size = test * splits + 1
    total = np.fft.irfft(np.fft.rfft(once, 2 * size) ** splits, 2 * size)[:size]
    reached = np.cumsum(np.maximum(total, 0))
    tail = (1 - confidence) / 2
    low, high = np.searchsorted(reached, [tail, 1 - tail]) / (test * splits)
    return Interval(float(low), float(high))


def coins_of(contents: Sequence[str]) -> Array:
    """Toss a coin for each image that always falls alike: (N,) float64 in [0, 1).

    contents: sha256 of each file, 64 hex digits. The same file gets the same set every time, and
    a different file an independent one.
    """
    return np.array([int(content[:13], 16) / 16**13 for content in contents])


def _quantile(scores: Array, alpha: float) -> float:
    order = _order(len(scores), alpha)
    return (
        float(np.partition(scores, order - 1)[order - 1]) if order <= len(scores) else EVERY_LABEL
    )


def _order(images: int, alpha: float) -> int:
    # 1e-9: (n + 1) (1 - alpha) may be a whole number that floating point misses.
    return math.ceil((images + 1) * (1 - alpha) - 1e-9)


def _rank(probabilities: Array) -> IntArray:
    """Place of each label in its row, the most likely first: (N, C) int64 from 0."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rank: IntArray = np.argsort(order, axis=1, kind="stable")
    return rank


def _before(probabilities: Array) -> Array:
    """Sum the probabilities of the more likely labels: (N, C)."""
    falling = -np.sort(-probabilities, axis=1, kind="stable")
    before = np.cumsum(falling, axis=1) - falling
    return np.take_along_axis(before, _rank(probabilities), axis=1)


def _penalty(probabilities: Array, method: str, *, beyond: int = 0) -> Array | float:
    """Of raps: for each label by which its place exceeds the free ones; `beyond`: places less."""
    if not method.startswith("raps"):
        return 0.0
    place = _rank(probabilities) + 1 - beyond
    return RAPS_PENALTY * np.maximum(place - RAPS_FREE, 0)


def _sum_of_others(probabilities: Array) -> Array:
    left = np.cumsum(probabilities, axis=1)
    right = np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1]
    others = np.zeros_like(probabilities)
    others[:, 1:] += left[:, :-1]
    others[:, :-1] += right[:, 1:]
    return others


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ConfigError(f"no prediction sets are called {method!r}; use {', '.join(METHODS)}")


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha}; give the share of misses, above 0 and below 1")
