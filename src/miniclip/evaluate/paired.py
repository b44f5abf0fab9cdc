"""Which of two models is better on the same items, when many such questions are asked at once.

Each pair of models is compared on each data set, task and figure; the p-values of all of them are
corrected together, since among twenty comparisons of equals one is expected to look significant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.evaluate.judgements import kendall, resampled_taus
from miniclip.evaluate.matrix_tasks import Hits, Outcome, Scores
from miniclip.metrics import Interval
from miniclip.probe.comparison import SIGNIFICANT, compare, holm
from miniclip.probe.intervals import percentiles

NO_DIFFERENCE = "no difference"


@dataclass(frozen=True)
class PairedComparison:
    """difference: figure of the first bundle minus that of the second, with a 95 % interval.

    items: on how many groups of items (images) both were asked. p: of this comparison alone;
    p_adjusted: after Holm's correction for all comparisons of the matrix. verdict: which bundle is
    better if p_adjusted < 0.05 and the interval leaves out 0, else "no difference".
    """

    data: str
    task: str
    figure: str
    first: str
    second: str
    items: int
    difference: float
    interval: Interval
    p: float
    p_adjusted: float
    verdict: str


Place = tuple[str, str, str]  # data, task, figure


def compare_bundles(
    outcomes: Mapping[Place, Mapping[str, Outcome]], *, seed: int, resamples: int
) -> tuple[PairedComparison, ...]:
    """Compare all pairs of bundles that were asked the same items.

    outcomes: by data, task and figure, then by bundle. Hits: the exact sign-flip test of
    `probe.comparison` over groups; scores: a paired bootstrap of the difference of Kendall's taus
    over images, p twice the smaller tail.
    """
    found = [
        _compared(place, names, (by_bundle[names[0]], by_bundle[names[1]]), seed, resamples)
        for place, by_bundle in outcomes.items()
        for names in combinations(by_bundle, 2)
        if by_bundle[names[0]].items == by_bundle[names[1]].items
    ]
    adjusted = holm([one.p for one in found])
    return tuple(
        _judged(replace(one, p_adjusted=p)) for one, p in zip(found, adjusted, strict=True)
    )


def _compared(
    place: Place,
    names: tuple[str, str],
    outcomes: tuple[Outcome, Outcome],
    seed: int,
    resamples: int,
) -> PairedComparison:
    one, other = outcomes
    if isinstance(one, Hits) and isinstance(other, Hits):
        items = len(one.of)
        groups = np.repeat(np.arange(items), one.of)
        result = compare(_answers(one), _answers(other), groups, names=names)
        difference, interval, p = result.difference, result.interval, result.p
    else:
        assert isinstance(one, Scores)
        assert isinstance(other, Scores)
        items = len(set(one.image))
        difference, interval, p = _tau_difference(one, other, seed, resamples)
    return PairedComparison(*place, *names, items, difference, interval, p, p, NO_DIFFERENCE)


def _answers(hits: Hits) -> NDArray[Any]:
    """Spell counts out as right and wrong answers, group by group."""
    return np.concatenate(
        [np.arange(of) < right for right, of in zip(hits.right, hits.of, strict=True)]
    )


def _tau_difference(
    one: Scores, other: Scores, seed: int, resamples: int
) -> tuple[float, Interval, float]:
    scores = [np.array(one.scores), np.array(other.scores)]
    ratings, image = np.array(one.ratings), np.array(one.image, dtype=np.int64)
    variant = one.variant
    value = kendall(scores[0], ratings, variant) - kendall(scores[1], ratings, variant)
    drawn = resampled_taus(scores, ratings, image, variant, seed=seed, resamples=resamples)
    differences = drawn[:, 0] - drawn[:, 1]
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return value, Interval(value, value), 1.0
    # With one added to each count, p is never 0: no bootstrap shows that chance is impossible.
    tail = min((differences <= 0).sum(), (differences >= 0).sum()) + 1
    return value, percentiles(differences), float(min(2 * tail / (len(differences) + 1), 1.0))


def _judged(one: PairedComparison) -> PairedComparison:
    better = one.p_adjusted < SIGNIFICANT and not one.interval.low <= 0 <= one.interval.high
    if not better:
        return one
    return replace(one, verdict=f"{one.first if one.difference > 0 else one.second} is better")
