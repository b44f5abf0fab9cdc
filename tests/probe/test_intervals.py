"""Intervals against resampling by hand, textbook figures, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.errors import ConfigError
from miniclip.metrics import bootstrap_interval
from miniclip.probe import intervals
from miniclip.probe.intervals import bootstrap, exact_interval, percentiles, share


def test_the_share_of_groups_equals_resampling_by_hand() -> None:
    rng = np.random.default_rng(0)
    hits, groups = rng.random(300) < 0.7, rng.integers(60, size=300)
    score = share(hits, groups, seed=4, resamples=4000)
    by_hand = []
    for _ in range(4000):
        drawn = np.concatenate([hits[groups == g] for g in rng.integers(60, size=60)])
        by_hand.append(drawn.mean())
    assert score.value == hits.mean()
    assert score.method == "bootstrap"
    assert score.interval == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=0.006)
    other = bootstrap_interval(hits, np.unique(groups, return_inverse=True)[1], resamples=4000)
    assert score.interval == pytest.approx(tuple(other), abs=0.006)


def test_the_exact_interval_is_that_of_the_textbook() -> None:
    # Clopper and Pearson for 0 and 10 of 10, and 5 of 10: every table has them.
    assert exact_interval(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert exact_interval(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert exact_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)


def test_a_perfect_score_is_no_proof() -> None:
    score = share(np.ones(300, bool))
    assert score.value == 1.0
    assert score.method == "exact"
    assert score.interval == pytest.approx((0.9878, 1.0), abs=1e-4)
    few_patients = share(np.ones(300, bool), np.arange(300) // 30)
    assert few_patients.interval.low == pytest.approx(0.6915, abs=1e-4)
    assert share(np.zeros(300, bool)).interval == pytest.approx((0.0, 0.0122), abs=1e-4)


def test_one_giant_group_does_not_make_the_others_worthless() -> None:
    groups = np.concatenate([np.arange(1600), np.full(300, 1600)])
    hits = np.arange(1900) % 300 != 0  # 7 wrong, spread over all
    low, high = share(hits, groups).interval
    assert 0.98 < low < hits.mean() < high < 1


@pytest.mark.parametrize("accuracy", [0.6, 0.95, 0.99])
@pytest.mark.parametrize("group_size", [1, 4])
def test_intervals_hold_the_truth_19_times_of_20(accuracy: float, group_size: int) -> None:
    """Images of a group share half of their luck. Intervals of few errors hold it more often."""
    rng, held = np.random.default_rng(1), 0
    for seed in range(200):
        luck = np.repeat(rng.random(120), group_size)
        own = rng.random(luck.size)
        hits = np.where(rng.random(luck.size) < 0.5, luck, own) < accuracy
        groups = np.repeat(np.arange(120), group_size)
        low, high = share(hits, groups, seed=seed, resamples=300).interval
        held += low <= accuracy <= high
    assert held / 200 >= 0.9


def test_blocks_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(0).random((50, 1))
    draw = {seed: bootstrap(lambda w: {"x": w.T @ sums}, 50, seed=seed)["x"] for seed in (1, 2)}
    again = bootstrap(lambda w: {"x": w.T @ sums}, 50, seed=1)["x"]
    assert (again == draw[1]).all()
    assert (draw[1] != draw[2]).any()
    monkeypatch.setattr(intervals, "_BLOCK_CELLS", 100)
    blocked = bootstrap(lambda w: {"x": w.T @ sums}, 50, seed=1)["x"]
    assert blocked.shape == draw[1].shape
    assert percentiles(blocked[:, 0]) == pytest.approx(percentiles(draw[1][:, 0]), rel=0.02)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 images"):
        share(np.empty(0))
    with pytest.raises(ConfigError, match="3 images but 2 groups"):
        share(np.ones(3), np.zeros(2))
    with pytest.raises(ConfigError, match="0 times"):
        share(np.ones(3), resamples=0)
