"""Gaps are those of fairlearn; intervals hold for what was picked; alarms mean something."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.audit.parity import Gap, adjusted, gaps_of, worst_of
from miniclip.audit.rates import Rate, by_subgroup, cells_of, wilson
from miniclip.metrics import Interval
from tests.audit.answers import made_up

NAMES = ("x", "y", "z")


def by_name(gaps: tuple[Gap, ...]) -> dict[str, Gap]:
    return {gap.name: gap for gap in gaps}


@pytest.mark.parametrize("seed", range(3))
def test_gaps_of_two_classes_are_those_of_fairlearn(seed: int) -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    answers, subgroup = made_up(120, (0.9, 0.6, 0.8), seed=seed)
    truth = (answers.labels, answers.predicted)

    gaps = by_name(gaps_of(answers, subgroup, NAMES, permutations=9))

    def theirs(name: str) -> float:
        return float(getattr(metrics, name)(*truth, sensitive_features=subgroup))

    # fairlearn speaks of the class 1, which is b here.
    assert gaps["demographic parity"].per_class["b"] == pytest.approx(
        theirs("demographic_parity_difference")
    )
    assert gaps["equalized odds"].per_class["b"] == pytest.approx(
        theirs("equalized_odds_difference")
    )
    assert gaps["equal opportunity"].per_class["b"] == pytest.approx(
        theirs("equal_opportunity_difference")
    )
    ratio = gaps["accuracy"].ratio
    frame = metrics.MetricFrame(
        metrics={"accuracy": lambda y, said: float((y == said).mean())},
        y_true=truth[0],
        y_pred=truth[1],
        sensitive_features=subgroup,
    )
    assert gaps["accuracy"].difference.value == pytest.approx(frame.difference()["accuracy"])
    assert ratio is not None
    assert ratio.value == pytest.approx(frame.ratio()["accuracy"])
    flipped = answers.__class__(**{**vars(answers), "predicted": 1 - answers.predicted})
    odds = by_name(gaps_of(flipped, subgroup, NAMES, permutations=9))["equalized odds"].ratio
    both = min(  # of the class 1 and, seen from the other side, of the class 0
        float(
            metrics.equalized_odds_ratio(
                np.abs(side - truth[0]), np.abs(side - flipped.predicted),
                sensitive_features=subgroup,
            )
        )
        for side in (0, 1)
    )  # fmt: skip
    assert odds is not None
    assert odds.value == pytest.approx(both)


def test_a_planted_gap_is_covered_and_found_and_no_gap_raises_no_alarm() -> None:
    runs, planted = 45, 0.3
    covered = worst_covered = found = alarms = 0
    for seed in range(runs):
        answers, subgroup = made_up(180, (0.9, 0.9 - planted, 0.9), seed=seed)
        (gaps,) = adjusted([gaps_of(answers, subgroup, NAMES, permutations=199)])
        accuracy = by_name(gaps)["accuracy"]
        covered += accuracy.difference.interval.low <= planted <= accuracy.difference.interval.high
        low, high = worst_of(answers, subgroup, NAMES).accuracy.interval
        worst_covered += low <= 0.9 - planted <= high
        found += accuracy.alarm and accuracy.lowest == "y"
        answers, subgroup = made_up(180, (0.9, 0.9, 0.9), seed=1000 + seed)
        (gaps,) = adjusted([gaps_of(answers, subgroup, NAMES, permutations=199)])
        alarms += any(gap.alarm for gap in gaps)

    assert covered >= 0.93 * runs
    assert worst_covered >= 0.93 * runs
    assert found >= 0.7 * runs
    assert alarms <= 0.07 * runs


def test_images_that_share_their_luck_are_no_proof() -> None:
    """Ten copies of each picture would make any difference significant."""
    alarms = {1: 0, 10: 0}
    for size in alarms:
        for seed in range(15):
            answers, subgroup = made_up(300, (0.8, 0.8), seed=seed, cluster=10)
            if size == 1:  # as if nobody knew that they are copies
                answers = answers.__class__(**{**vars(answers), "cluster": np.arange(300)})
            (gaps,) = adjusted([gaps_of(answers, subgroup, ("x", "y"), permutations=199)])
            alarms[size] += any(gap.alarm for gap in gaps)

    assert alarms[10] <= 2
    assert alarms[1] >= 6


def test_a_rate_of_one_image_is_not_compared() -> None:
    answers, subgroup = made_up(100, (1.0, 1.0), classes=3)
    labels = np.where((answers.labels == 2) & (subgroup == 1), 0, answers.labels)
    predicted = np.array(answers.predicted)
    labels[np.flatnonzero(subgroup == 1)[0]] = 2  # the only one of c in y, and taken for another
    predicted[np.flatnonzero(subgroup == 1)[0]] = 0
    answers = answers.__class__(**{**vars(answers), "labels": labels, "predicted": predicted})

    def recall_gaps(fewest: int) -> Gap:
        gaps = gaps_of(answers, subgroup, ("x", "y"), fewest=fewest, permutations=9)
        return by_name(gaps)["equal opportunity"]

    assert recall_gaps(1).per_class["c"] == 1
    assert "c" not in recall_gaps(10).per_class


def test_the_variance_of_clusters_is_that_of_their_means() -> None:
    """Of equal clusters: that of their means, over how many there are."""
    rng = np.random.default_rng(0)
    values = rng.random((20, 5))
    rate = Rate(None, values.ravel(), np.ones(100, dtype=bool))
    cluster, subgroup = np.arange(100) // 5, np.zeros(100, dtype=np.int64)

    found = by_subgroup(cells_of([rate], cluster, subgroup), 1)

    assert found.value[0, 0] == pytest.approx(values.mean())
    assert found.variance[0, 0] == pytest.approx(values.mean(axis=1).var(ddof=1) / 20)


def test_the_interval_of_a_share_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")

    low, high = wilson(np.array(0.9), np.array(40.0), np.array(1.959964))

    theirs = stats.binomtest(36, 40).proportion_ci(method="wilson")
    assert Interval(float(low), float(high)) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
