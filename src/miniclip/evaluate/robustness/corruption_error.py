"""Mean corruption error, absolute and beside a baseline, each with its interval.

Hendrycks and Dietterich 2019, section 4.2. With E(s, c) the error of a model at severity s of
corruption c, and E its error on clean images,

    CE(c)  = sum_s E(s, c) / sum_s E_base(s, c)                   mCE: the mean over corruptions
    rCE(c) = sum_s (E(s, c) - E) / sum_s (E_base(s, c) - E_base)  relative mCE: likewise

Theirs is AlexNet on ImageNet; on other data another baseline is named. It knows no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.evaluate.robustness.conditions import CLEAN, Condition
from miniclip.metrics import Interval
from miniclip.probe.intervals import Score, bootstrap, group_sums, number_groups, percentiles

Correct = Mapping[Condition, NDArray[np.bool_]]  # (M,) in each condition
Array = NDArray[np.float64]


@dataclass(frozen=True)
class CorruptionErrors:
    """Errors of one model.

    error: of each corruption, the mean over severities, 0..1. mean: over corruptions. ce, rce:
    beside the baseline, 1 is as bad; None where the baseline never errs, or loses nothing. mce,
    relative_mce: their means over the corruptions that have one; None without a baseline, or when
    no corruption has one.
    """

    error: Mapping[str, Score]
    mean: Score
    ce: Mapping[str, Score | None]
    mce: Score | None
    rce: Mapping[str, Score | None]
    relative_mce: Score | None


def corruption_errors(
    own: Correct, baseline: Correct | None, group: IntArray, *, seed: int = 0
) -> CorruptionErrors:
    """Measure one model; both have CLEAN among their conditions, and the same others.

    group: (M,); whole groups are drawn again, the same for model and baseline.
    """
    conditions = [condition for condition in own if condition != CLEAN]
    names = list(dict.fromkeys(condition.corruption for condition in conditions))
    column = {condition: number for number, condition in enumerate([CLEAN, *conditions])}
    columns = [[column[one] for one in conditions if one.corruption == name] for name in names]
    models = [own] if baseline is None else [own, baseline]
    wrong = [~np.asarray(model[condition]) for model in models for condition in column]
    numbers, groups = number_groups(group, len(group))
    sums = group_sums(np.stack([*wrong, np.ones(len(group))], axis=1).astype(np.float64), numbers)

    def figures(weights: NDArray[np.float32]) -> dict[str, Array]:
        drawn = weights.T.astype(np.float64) @ sums
        errors = (drawn[:, :-1] / drawn[:, -1:]).reshape(len(drawn), len(models), len(column))
        return _figures(errors, columns)

    value = {name: one[0] for name, one in figures(np.ones((groups, 1), np.float32)).items()}
    drawn = bootstrap(figures, groups, seed=seed)

    def scores(figure: str) -> dict[str, Score | None]:
        if figure not in value:
            return dict.fromkeys(names)
        return {
            name: _score(value[figure][number], drawn[figure][:, number])
            for number, name in enumerate(names)
        }

    def mean(figure: str) -> Score | None:
        return _score(value[figure], drawn[figure]) if figure in value else None

    whole = mean("mean")
    assert whole is not None  # an error is a number
    return CorruptionErrors(
        error={name: one for name, one in scores("error").items() if one},
        mean=whole,
        ce=scores("ce"),
        mce=mean("mce"),
        rce=scores("rce"),
        relative_mce=mean("relative mce"),
    )


def _figures(errors: Array, columns: Sequence[Sequence[int]]) -> dict[str, Array]:
    """errors: (R, models, conditions), the clean one first -> figures of R resamples."""
    by_name = np.stack([errors[:, :, own].mean(axis=2) for own in columns], axis=2)
    found = {"error": by_name[:, 0], "mean": by_name[:, 0].mean(axis=1)}
    if errors.shape[1] == 2:
        lost = by_name - errors[:, :, :1]
        for name, (own, base) in {
            "ce": (by_name[:, 0], by_name[:, 1]),
            "rce": (lost[:, 0], lost[:, 1]),
        }.items():
            ratio = np.divide(own, base, out=np.full_like(own, np.nan), where=base > 0)
            there = np.isfinite(ratio)
            total = np.where(there, ratio, 0).sum(axis=1)
            count = there.sum(axis=1)
            found[name] = ratio
            found["mce" if name == "ce" else "relative mce"] = np.divide(
                total, count, out=np.full_like(total, np.nan), where=count > 0
            )
    return found


def _score(value: float, drawn: Array) -> Score | None:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        return None
    low, high = percentiles(drawn)
    return Score(float(value), Interval(min(low, float(value)), max(high, float(value))))
