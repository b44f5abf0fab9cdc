"""Scores to probabilities that mean what they say: temperature, and how to measure calibration.

One number per model: probabilities = softmax(scores / T), which changes no decision (Guo et al.
2017, "On calibration of modern neural networks"). It fits no classifier and draws no diagram.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.special import softmax as scipy_softmax

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError

Array = NDArray[np.float64]

BINS = 15
_SMALLEST = 1e-12  # a probability of 0 for what happened would cost an infinite NLL
_WIDEST = np.log(1e4)  # the temperature lies within this factor of the spread of the scores


class ReliabilityBin(NamedTuple):
    """Images of about the same confidence: what was promised and what was kept, as shares."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def softmax(scores: NDArray[Any], temperature: float = 1.0) -> Array:
    """Probabilities of calibrated scores: (N, C) -> (N, C) float64, rows sum to 1."""
    probabilities: Array = scipy_softmax(np.asarray(scores, np.float64) / temperature, axis=1)
    return probabilities


def fit_temperature(scores: NDArray[Any], labels: IntArray) -> float:
    """Find the T > 0 that minimises the NLL of softmax(scores / T) (Guo et al. 2017, section 4.2).

    scores: (N, C) logits. labels: (N,) integers in [0, C), of which the weight of one image in all,
    1 / (N + 1), is spread evenly over the classes (in the spirit of Platt 1999, section 2.2): so a
    set without a mistake does not give T = 0, a model that is never in doubt. Scores that say
    nothing give 1. Raises ConfigError for no images.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if len(scores) == 0 or len(scores) != len(labels):
        raise ConfigError(
            f"cannot calibrate on {len(scores)} rows of scores and {len(labels)} labels; "
            "give one label for each row, and at least one row"
        )
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = float(centred.std())
    if spread == 0:
        return 1.0
    centred /= spread
    # Rows are centred, so the evenly spread part of the labels adds nothing.
    own = centred[np.arange(len(labels)), labels].mean() * len(labels) / (len(labels) + 1)

    def loss(log_sharpness: float) -> float:
        sharpness = np.exp(log_sharpness)
        return float(logsumexp(sharpness * centred, axis=1).mean() - sharpness * own)

    best = minimize_scalar(
        loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-7}
    )
    return float(spread / np.exp(best.x))


def cross_calibrate(scores: NDArray[Any], labels: IntArray, fold_of: IntArray) -> Array:
    """Calibrate held-out scores as new images would be: (N, C) -> probabilities (N, C) float64.

    Each fold's temperature is fitted on the other folds, never on the images that it is judged by.
    fold_of: (N,) integers; one fold alone cannot be judged this way: ConfigError.
    """
    folds = np.unique(fold_of)
    if len(folds) < 2:
        raise ConfigError("cross-fitted calibration needs at least 2 folds; got 1")
    probabilities = np.empty(np.shape(scores), dtype=np.float64)
    for fold in folds:
        held_out = fold_of == fold
        temperature = fit_temperature(scores[~held_out], labels[~held_out])
        probabilities[held_out] = softmax(scores[held_out], temperature)
    return probabilities


def nll(probabilities: Array, labels: IntArray) -> float:
    """Mean negative log-likelihood in nats: (N, C), (N,) -> >= 0; 0 is certain and right."""
    return float(nll_each(probabilities, labels).mean())


def nll_each(probabilities: Array, labels: IntArray) -> Array:
    """Negative log-likelihood of each image, at most 27.6 nats (a probability of 1e-12)."""
    own = probabilities[np.arange(len(labels)), labels]
    costs: Array = -np.log(np.clip(own, _SMALLEST, 1.0))
    return costs


def brier(probabilities: Array, labels: IntArray) -> float:
    """Mean squared distance to the truth, summed over classes, in [0, 2] (Brier 1950)."""
    return float(brier_each(probabilities, labels).mean())


def brier_each(probabilities: Array, labels: IntArray) -> Array:
    """Squared distance of each row (N, C) to its one-hot label: (N,) in [0, 2]."""
    own = probabilities[np.arange(len(labels)), labels]
    distances: Array = np.square(probabilities).sum(axis=1) - 2 * own + 1
    return distances


def ece(probabilities: Array, labels: IntArray, bins: int = BINS) -> float:
    """Measure the expected calibration error of the winning class, in [0, 1], over equal-mass bins.

    Mean over bins, by their images, of |accuracy - confidence| (Nguyen and O'Connor 2015 for bins
    of equal mass). It is never 0 by chance: see `ece_by_chance` for what a perfectly calibrated
    model would get on so many images.
    """
    confidence, gap = _gaps(probabilities, labels)
    bin_of = equal_mass_bins(confidence, bins)
    return float(np.abs(np.bincount(bin_of, weights=gap)).sum() / len(gap))


def ece_by_chance(
    probabilities: Array, bins: int = BINS, *, seed: int = 0, draws: int = 200
) -> Array:
    """Draw the ECEs that a model would get whose every confidence is exactly true: (draws,).

    probabilities: (N, C). The truth is drawn from the confidences themselves. An ECE among these is
    no sign of miscalibration: their mean is what chance alone makes of so many images. It is
    reported beside the ECE, never subtracted.
    """
    confidence = probabilities.max(axis=1)
    bin_of = equal_mass_bins(confidence, bins)
    rng = np.random.default_rng(seed)
    gaps = (confidence - (rng.random(len(confidence)) < confidence) for _ in range(draws))
    totals = [np.abs(np.bincount(bin_of, weights=gap)).sum() for gap in gaps]
    return np.array(totals) / len(confidence)


def reliability_bins(
    probabilities: Array, labels: IntArray, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the bins of `ece`, from the least confident up; at most `bins` of them."""
    confidence, gap = _gaps(probabilities, labels)
    bin_of = equal_mass_bins(confidence, bins)
    found = []
    for number in np.unique(bin_of):
        inside = bin_of == number
        promised = float(confidence[inside].mean())
        found.append(
            ReliabilityBin(
                low=float(confidence[inside].min()),
                high=float(confidence[inside].max()),
                images=int(inside.sum()),
                confidence=promised,
                accuracy=promised - float(gap[inside].mean()),
            )
        )
    return tuple(found)


def equal_mass_bins(confidence: Array, bins: int = BINS) -> IntArray:
    """Sort images by confidence into bins of N / bins each: (N,) -> numbers (N,) int64 from 0.

    Equal confidences stay together, in the bin of the first of them: the split of a tie would
    depend on the order of the files. So there may be fewer bins.
    """
    order = np.argsort(confidence, kind="stable")
    rank = np.arange(len(confidence)) * min(bins, len(confidence)) // max(len(confidence), 1)
    first = np.searchsorted(confidence[order], confidence)
    found: IntArray = rank[first]
    return found


def _gaps(probabilities: Array, labels: IntArray) -> tuple[Array, Array]:
    """Confidence (N,) and confidence minus hit (N,)."""
    confidence = probabilities.max(axis=1)
    return confidence, confidence - (probabilities.argmax(axis=1) == labels)
