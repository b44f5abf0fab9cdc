"""Parity gaps between subgroups by the definitions of fairlearn, each with interval and test.

fairlearn 0.15, `fairlearn.metrics`: a difference is the largest rate less the smallest, a ratio the
smallest over the largest; equalized odds takes the worse of true and false positive rate. A
classifier of C classes has these rates for each class against the rest, and the gap is that of the
worst class. Tests hold them against fairlearn. It reads no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from miniclip.arrays import IntArray
from miniclip.audit.answers import Answers
from miniclip.audit.homogeneity import PERMUTATIONS, homogeneity_p
from miniclip.audit.rates import (
    Array,
    Ends,
    Estimates,
    Rate,
    by_subgroup,
    cells_of,
    differences,
    simultaneous,
)
from miniclip.metrics import Interval
from miniclip.probe.comparison import holm
from miniclip.probe.intervals import Score

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Gap:
    """How far apart the subgroups of one column are in one respect.

    difference: largest less smallest rate; ratio: smallest over largest, None where there is no
    ratio. Both intervals hold although the subgroups, and the class, were picked for being furthest
    apart. of: the class that is worst off, lowest, highest: its subgroups. per_class: the
    difference of each class. p: of the test that all subgroups are equal; p_adjusted: by Holm over
    all gaps of all columns of an audit. alarm: p_adjusted is at most 0.05.
    """

    name: str
    difference: Score
    ratio: Score | None
    of: str | None
    lowest: str
    highest: str
    per_class: Mapping[str, float]
    p: float
    p_adjusted: float = 1.0
    alarm: bool = False


@dataclass(frozen=True)
class Worst:
    """The subgroup with the lowest accuracy; its interval holds although it was picked.

    perhaps: the subgroups that may be worst in truth, whose own interval reaches that far down.
    """

    subgroup: str
    accuracy: Score
    perhaps: tuple[str, ...]


class Family(NamedTuple):
    """A gap and the rates that it is the largest of."""

    name: str
    rates: tuple[Rate, ...]


def families_of(answers: Answers) -> Iterator[Family]:
    """Name the gaps of a classifier's answers.

    accuracy, coverage of the sets, share decided automatically; overconfidence, the mean
    confidence less the accuracy; demographic parity, the share called c; equal opportunity, the
    recall of c; equalized odds, that and the share of other images called c.
    """
    everyone = np.ones(len(answers), dtype=bool)
    correct = answers.correct.astype(np.float64)
    yield Family("accuracy", (Rate(None, correct, everyone),))
    gap = Rate(None, answers.confidence - correct, everyone, share=False)
    yield Family("overconfidence", (gap,))
    for name, values in (("coverage", answers.covered), ("automatic", answers.automatic)):
        if values is not None:
            yield Family(name, (Rate(None, values.astype(np.float64), everyone),))
    called = [
        (name, (answers.predicted == c).astype(np.float64), answers.labels == c)
        for c, name in enumerate(answers.classes)
    ]
    yield Family("demographic parity", tuple(Rate(n, said, everyone) for n, said, _ in called))
    right = tuple(Rate(n, said, own) for n, said, own in called)
    wrong = tuple(Rate(n, said, ~own) for n, said, own in called)
    yield Family("equal opportunity", right)
    yield Family("equalized odds", (*right, *wrong))


def gaps_of(
    answers: Answers,
    subgroup: IntArray,
    names: Sequence[str],
    *,
    fewest: int = 1,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> tuple[Gap, ...]:
    """Measure and test the gaps between the subgroups of N answers, p not adjusted yet.

    subgroup: (N,) int64 in [0, G), G names; at least two. fewest: the rate of a subgroup counts
    when it is a mean of so many images; the recall of a class that a subgroup has one image of
    would be 0 or 1.
    """
    families = list(_comparable(families_of(answers), subgroup, fewest))
    cells = cells_of([r for family in families for r in family.rates], answers.cluster, subgroup)
    ends = np.cumsum([0, *(len(family.rates) for family in families)])
    spans = [np.arange(*ends[place : place + 2]) for place in range(len(families))]
    p = homogeneity_p(cells, len(names), spans, seed=seed, permutations=permutations)
    found = by_subgroup(cells, len(names))
    return tuple(
        _gap(family, _columns(found, span), names, chance)
        for family, span, chance in zip(families, spans, p, strict=True)
    )


def _comparable(families: Iterable[Family], subgroup: IntArray, fewest: int) -> Iterator[Family]:
    """Count the images of subgroups with enough of them; keep rates that two subgroups have."""
    for family in families:
        rates = []
        for rate in family.rates:
            enough = np.bincount(subgroup, weights=rate.counted) >= fewest
            if enough.sum() > 1:
                rates.append(rate._replace(counted=rate.counted & enough[subgroup]))
        if rates:
            yield Family(family.name, tuple(rates))


def adjusted(columns: Sequence[Sequence[Gap]]) -> list[tuple[Gap, ...]]:
    """Adjust the p values of all gaps of all columns together."""
    corrected = iter(holm([gap.p for gaps in columns for gap in gaps]))
    return [
        tuple(
            replace(gap, p_adjusted=p, alarm=p <= SIGNIFICANT)
            for gap, p in zip(gaps, corrected, strict=False)
        )
        for gaps in columns
    ]


def worst_of(answers: Answers, subgroup: IntArray, names: Sequence[str]) -> Worst:
    """Find the subgroup with the lowest accuracy."""
    everyone = np.ones(len(answers), dtype=bool)
    rate = Rate(None, answers.correct.astype(np.float64), everyone)
    found = by_subgroup(cells_of([rate], answers.cluster, subgroup), len(names))
    low, high = (end[:, 0] for end in simultaneous(found, shares=True))
    value = found.value[:, 0]
    interval = Interval(float(low.min()), float(high.min()))
    perhaps = tuple(name for name, end in zip(names, low, strict=True) if end <= float(high.min()))
    return Worst(
        names[int(value.argmin())], Score(float(value.min()), interval, "simultaneous"), perhaps
    )


def _columns(found: Estimates, span: IntArray) -> Estimates:
    parts = (found.value, found.images, found.variance, found.steady, found.trials)
    return Estimates(*(part[:, span] for part in parts))


def _gap(family: Family, found: Estimates, names: Sequence[str], p: float) -> Gap:
    rates, shares = family.rates, family.rates[0].share
    gaps = np.nan_to_num(np.nanmax(found.value, axis=0) - np.nanmin(found.value, axis=0))
    worst = int(gaps.argmax())
    per_class: dict[str, float] = {}
    for rate, gap in zip(rates, gaps.tolist(), strict=True):
        if rate.of is not None:
            per_class[rate.of] = max(gap, per_class.get(rate.of, 0.0))
    between = differences(found, shares, families=len(rates))
    interval = Interval(
        max(float(np.nanmax(between.low)), 0.0),
        min(float(np.nanmax(between.high)), 1.0 if shares else 2.0),
    )
    return Gap(
        name=family.name,
        difference=Score(float(gaps[worst]), interval, "simultaneous"),
        ratio=_ratio(found, simultaneous(found, shares, families=len(rates))) if shares else None,
        of=rates[worst].of,
        lowest=names[int(np.nanargmin(found.value[:, worst]))],
        highest=names[int(np.nanargmax(found.value[:, worst]))],
        per_class=per_class,
        p=p,
    )


def _ratio(found: Estimates, ends: Ends) -> Score | None:
    """Return the smallest ratio of all rates; None when no image of any has it."""
    top = np.nanmax(found.value, axis=0)
    some = top > 0
    if not some.any():
        return None

    def least(small: Array, large: Array) -> float:
        bottom = np.nanmin(small[:, some], axis=0)
        peak = np.maximum(np.nanmax(large[:, some], axis=0), np.finfo(float).tiny)
        return float(np.minimum(bottom / peak, 1.0).min())

    interval = Interval(least(ends.low, ends.high), least(ends.high, ends.low))
    return Score(least(found.value, found.value), interval, "simultaneous")
