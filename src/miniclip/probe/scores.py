"""Every figure of a classifier on labelled images, each with its interval.

From calibrated probabilities and labels alone: which model, folds and temperature made them is the
business of others. `Score`, `share` and `Comparison` may be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.metrics import Interval
from miniclip.probe.calibration import (
    BINS,
    brier_each,
    ece_by_chance,
    equal_mass_bins,
    nll,
    nll_each,
)
from miniclip.probe.comparison import Comparison
from miniclip.probe.intervals import (
    FEW,
    RESAMPLES,
    Array,
    Score,
    Weights,
    bootstrap,
    bounded,
    group_sums,
    number_groups,
    percentiles,
    share,
)

__all__ = [
    "ClassScores",
    "ClassifierScores",
    "Comparison",
    "Score",
    "confusion",
    "score_classifier",
    "share",
]

# An AUROC is far better known than a share of as many groups, unless it is perfect.
_PERFECT_ONLY = 1e-9


@dataclass(frozen=True)
class ClassScores:
    """Figures of one class, in [0, 1]; None where there is none (no such image, none called so)."""

    images: int
    precision: Score | None
    recall: Score | None
    f1: Score | None
    auroc: Score | None


@dataclass(frozen=True)
class ClassifierScores:
    """Figures of a classifier with 95 % intervals; shares in [0, 1], brier in [0, 2], nll in nats.

    macro_f1: mean F1 of the classes that occur as label or answer. ece: equal-mass, of the winning
    class; ece_by_chance: what a perfectly calibrated model would get on as many images.
    per_class: by name. confusion: (C, C) images, a row of answers for each true class.
    """

    images: int
    groups: int
    accuracy: Score
    macro_f1: Score
    ece: Score
    ece_by_chance: float
    brier: Score
    nll: Score
    per_class: Mapping[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]


def score_classifier(
    probabilities: NDArray[Any],
    labels: IntArray,
    classes: Sequence[str],
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ClassifierScores:
    """Score held-out probabilities; intervals are 95 % cluster bootstraps over groups.

    probabilities: (N, C) rows that sum to 1. labels: (N,) integers in [0, C). classes: C names.
    groups: (N,) integers or names, the patient or picture of each image; None: images stand alone.
    All figures share their resamples. Raises ConfigError when the shapes disagree.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    _check(probabilities, labels, classes)
    group, count = number_groups(groups, len(labels))
    answers = probabilities.argmax(axis=1)
    counts = _Counts(labels, answers, group, len(classes))
    losses = _Losses(probabilities, labels, group)
    rankings = [_Ranking(probabilities[:, c], labels == c, group) for c in range(len(classes))]

    def figures(weights: Weights) -> dict[str, NDArray[Any]]:
        curves = np.stack([ranking.auroc(weights) for ranking in rankings], axis=1)
        return {**counts.figures(weights), **losses.figures(weights), "auroc": curves}

    value = {name: one[0].tolist() for name, one in figures(np.ones((count, 1))).items()}
    drawn = bootstrap(figures, count, seed=seed, resamples=resamples)

    per_class = {
        name: ClassScores(
            images=int((labels == c).sum()),
            **{
                figure: _score(value[figure][c], drawn[figure][:, c], trials[c])
                for figure, trials in counts.trials().items()
            },
            auroc=_score(
                value["auroc"][c], drawn["auroc"][:, c], rankings[c].trials, few=_PERFECT_ONLY
            ),
        )
        for c, name in enumerate(classes)
    }
    by_chance = ece_by_chance(probabilities, seed=seed)
    accuracy = bounded(value["accuracy"], drawn["accuracy"], count)
    unseen = accuracy.value - accuracy.interval.low if accuracy.method == "exact" else 0.0
    return ClassifierScores(
        images=len(labels),
        groups=count,
        accuracy=accuracy,
        macro_f1=bounded(value["macro_f1"], drawn["macro_f1"], counts.macro_trials()),
        ece=ece_score(value["ece"], drawn["ece"], by_chance, unseen),
        ece_by_chance=float(by_chance.mean()),
        brier=_loss_score(value["brier"], drawn["brier"], unseen * 2),
        nll=_loss_score(value["nll"], drawn["nll"], unseen * losses.surprise),
        per_class=per_class,
        confusion=confusion(labels, answers, len(classes)),
    )


def confusion(labels: IntArray, answers: IntArray, classes: int) -> tuple[tuple[int, ...], ...]:
    """Count images by true class (rows) and answer (columns)."""
    table = np.bincount(labels * classes + answers, minlength=classes**2)
    return tuple(tuple(row) for row in table.reshape(classes, classes).tolist())


class _Counts:
    """What accuracy, precision, recall and F1 are made of: (G, C) images of each group."""

    def __init__(self, labels: IntArray, answers: IntArray, group: IntArray, classes: int) -> None:
        one_hot = np.eye(classes, dtype=np.float32)
        told, called = one_hot[labels], one_hot[answers]
        self.hit, self.told, self.called = (
            group_sums(table, group) for table in (told * called, told, called)
        )

    def figures(self, weights: Weights) -> dict[str, NDArray[Any]]:
        hit, told, called = (
            weights.T @ table.astype(weights.dtype) for table in (self.hit, self.told, self.called)
        )
        f1 = _ratio(2 * hit, told + called)
        there = np.isfinite(f1)
        return {
            "accuracy": _ratio(hit.sum(axis=1), told.sum(axis=1)),
            "precision": _ratio(hit, called),
            "recall": _ratio(hit, told),
            "f1": f1,
            "macro_f1": np.where(there, f1, 0).sum(axis=1) / there.sum(axis=1),
        }

    def trials(self) -> dict[str, list[int]]:
        """Of how many groups each figure of each class is made."""
        tables = {"precision": self.called, "recall": self.told, "f1": self.told + self.called}
        return {name: np.count_nonzero(table, axis=0).tolist() for name, table in tables.items()}

    def macro_trials(self) -> float:
        """How many groups a mean over classes is worth: C^2 / sum 1 / n, so the rare count."""
        trials = np.array([n for n in self.trials()["f1"] if n > 0])
        return float(len(trials) ** 2 / (1 / trials).sum())


class _Losses:
    """What ECE, Brier and NLL are made of; the bins of the ECE are those of all images."""

    def __init__(self, probabilities: Array, labels: IntArray, group: IntArray) -> None:
        confidence = probabilities.max(axis=1)
        gap = confidence - (probabilities.argmax(axis=1) == labels)
        bins = np.eye(BINS)[equal_mass_bins(confidence)] * gap[:, None]
        losses = [brier_each(probabilities, labels), nll_each(probabilities, labels)]
        columns = np.column_stack([bins, *losses, np.ones(len(labels))])
        self.sums = group_sums(columns, group)
        # What an image would cost if its second-best class were the true one.
        self.surprise = nll(probabilities, probabilities.argsort(axis=1)[:, -2])

    def figures(self, weights: Weights) -> dict[str, NDArray[Any]]:
        sums = weights.T @ self.sums.astype(weights.dtype)
        bins, (brier, nll, images) = sums[:, :BINS], sums[:, BINS:].T
        return {
            "ece": np.abs(bins).sum(axis=1) / images,
            "brier": brier / images,
            "nll": nll / images,
        }


class _Ranking:
    """One class against the rest, for AUROC under any weights of groups.

    Images are sorted by score and cut into steps: a tie is a step, and so is a run of neighbours
    that are all of the class or all of the rest. AUROC is the share of pairs in which the one of
    the class is a step higher, a tie counting half (Mann and Whitney 1947).
    """

    def __init__(self, scores: Array, own: NDArray[np.bool_], group: IntArray) -> None:
        order = np.argsort(scores, kind="stable")
        tie = np.cumsum(np.diff(scores[order], prepend=-np.inf) > 0) - 1
        hits, images = np.bincount(tie, weights=own[order]), np.bincount(tie)
        kind = np.select([hits == 0, hits == images], [0, 1], default=2)
        new_run = np.ones(len(kind), dtype=bool)
        new_run[1:] = (np.diff(kind) != 0) | (kind[1:] == 2)
        step = (np.cumsum(new_run) - 1)[tie]
        shape = (int(new_run.sum()), int(group.max()) + 1)
        self._own, self._rest = (
            csr_array(
                (np.ones(inside.sum(), np.float32), (step[inside], group[order][inside])), shape
            )
            for inside in (own[order], ~own[order])
        )
        self.trials = min(len(np.unique(group[own])), len(np.unique(group[~own])))

    def auroc(self, weights: Weights) -> NDArray[Any]:
        """(G, r) -> (r,) in [0, 1]; NaN where the class or the rest was not drawn."""
        own, rest = (np.asarray(side @ weights, np.float64) for side in (self._own, self._rest))
        below = np.cumsum(rest, axis=0) - rest / 2
        return _ratio((own * below).sum(axis=0), own.sum(axis=0) * rest.sum(axis=0))


def _score(value: float, drawn: Array, trials: float, *, few: float = FEW) -> Score | None:
    return None if np.isnan(value) else bounded(value, drawn, trials, few=few)


def ece_score(value: float, drawn: Array, by_chance: Array, unseen: float = 0.0) -> Score:
    """Put the interval to an ECE: chance adds to it, and to that of a resample once more.

    drawn: (R,) of the bootstrap. by_chance: (B,) of `calibration.ece_by_chance`. unseen: how far
    the accuracy may lie below what was seen, where nearly all is right.

    The upper end is measured from the median of the resamples. The lower end takes away twice what
    a resample adds (the basic bootstrap, Davison and Hinkley 1997, section 5.2), and is 0 when a
    perfectly calibrated model would get as large an ECE.
    """
    high = percentiles(drawn).high
    low = min(max(2 * value - high, 0.0), value)
    if value <= percentiles(by_chance).high:
        low = 0.0
    rise = max(high - float(np.median(drawn)), 0.0)
    return Score(value, Interval(low, min(value + rise + unseen, 1.0)))


def _loss_score(value: float, drawn: Array, unseen: float) -> Score:
    low, high = percentiles(drawn)
    return Score(value, Interval(min(low, value), max(high, value + unseen)))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where there is nothing to divide by."""
    ratio: NDArray[Any] = np.divide(
        part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0, dtype=np.float64
    )
    return ratio


def _check(probabilities: Array, labels: IntArray, classes: Sequence[str]) -> None:
    if probabilities.shape != (len(labels), len(classes)):
        raise ConfigError(
            f"probabilities have shape {probabilities.shape} where ({len(labels)}, "
            f"{len(classes)}) is needed: a row per label, a column per class"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ConfigError(
            f"labels run from {labels.min()} to {labels.max()}; with {len(classes)} classes they "
            f"run from 0 to {len(classes) - 1}"
        )
    if not np.isfinite(probabilities).all():
        raise ConfigError("some probabilities are not finite numbers; fit the head again")
