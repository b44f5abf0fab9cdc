"""The threshold and its promises, by simulation of a world whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from miniclip.errors import ConfigError
from miniclip.probe.abstain import NEVER, choose_threshold, risk_coverage

Images = tuple[NDArray[np.float64], NDArray[np.bool_]]


def new_images(count: int, rng: np.random.Generator, *, twins: int = 1) -> Images:
    """Calibrated confidences of a classifier that is right 91 times of 100; twins share all."""
    confidence = 1 - 0.5 * rng.beta(0.35, 1.6, size=count // twins)
    correct = rng.random(count // twins) < confidence
    return np.repeat(confidence, twins), np.repeat(correct, twins)


def test_the_curve_walks_from_the_surest_image_down() -> None:
    curve = risk_coverage(np.array([0.7, 0.9, 0.8, 0.9]), np.array([False, True, True, True]))
    assert curve.threshold.tolist() == [0.9, 0.8, 0.7]
    assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
    assert curve.error.tolist() == [0.0, 0.0, 0.25]
    assert curve.aurc == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=8))
def test_aurc_is_the_mean_over_the_orders_of_a_tie(rows: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        order = np.lexsort((rng.random(len(rows)), -confidence))
        found.append((np.cumsum(~correct[order]) / np.arange(1, len(rows) + 1)).mean())
    assert risk_coverage(confidence, correct).aurc == pytest.approx(np.mean(found), abs=0.06)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.9]), st.booleans()), min_size=1),
    st.sampled_from([0.05, 0.2, 0.4]),
)
def test_the_threshold_is_the_lowest_that_keeps_the_target(
    rows: list[tuple[float, bool]], target: float
) -> None:
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    keep = [
        level
        for level in set(confidence.tolist())
        if (~correct[confidence >= level]).sum() + 1 <= target * ((confidence >= level).sum() + 1)
    ]
    assert choose_threshold(confidence, correct, target).threshold == min(keep, default=NEVER)


@pytest.mark.parametrize(
    ("images", "target", "twins"), [(600, 0.05, 1), (1500, 0.01, 1), (900, 0.05, 3)]
)
def test_what_is_stated_holds_on_new_images(images: int, target: float, twins: int) -> None:
    """The realised error and share of a new set of equal size lie within the stated intervals.

    Both would be missed far more often by an interval that forgets how the threshold was chosen.
    """
    rng = np.random.default_rng(images)
    error_held = share_held = 0
    for seed in range(60):
        confidence, correct = new_images(images, rng, twins=twins)
        groups = np.arange(images) // twins
        decision = choose_threshold(confidence, correct, target, groups, seed=seed)
        confidence, correct = new_images(images, rng, twins=twins)
        decided = confidence >= decision.threshold
        wrong = (~correct & decided).sum() / max(decided.sum(), 1)
        low, high = decision.error.interval
        error_held += low <= wrong <= high
        low, high = decision.automatic.interval
        share_held += low <= decided.mean() <= high
    assert error_held >= 54
    assert share_held >= 54


def test_the_target_is_met_on_average_and_used_up() -> None:
    rng, errors = np.random.default_rng(1), []
    for seed in range(40):
        decision = choose_threshold(*new_images(1500, rng), 0.02, seed=seed)
        confidence, correct = new_images(20_000, rng)
        decided = confidence >= decision.threshold
        errors.append((~correct[decided]).mean())
    assert 0.015 < np.mean(errors) < 0.0215


def test_a_lucky_start_decides_nothing() -> None:
    """Ten right answers do not show an error below 1 %; a hundred do."""
    for count, automatic in ((10, False), (120, True)):
        confidence = np.concatenate([np.linspace(0.9, 1, count), np.full(20, 0.5)])
        correct = np.concatenate([np.ones(count, bool), np.zeros(20, bool)])
        assert (choose_threshold(confidence, correct, 0.01).threshold <= 1) == automatic


def test_when_nothing_can_be_automatic_the_error_is_unknown() -> None:
    confidence = np.linspace(0.5, 1, 50)
    decision = choose_threshold(confidence, np.arange(50) % 2 == 0, 0.01)
    assert decision.threshold == NEVER
    assert decision.automatic.value == 0
    assert decision.error.interval == (0.0, 1.0)
    alone = choose_threshold(np.array([0.9]), np.array([True]), 0.6)
    assert alone.automatic.value == 0


def test_equal_seeds_give_equal_decisions() -> None:
    images = new_images(300, np.random.default_rng(0))
    assert choose_threshold(*images, 0.05, seed=3) == choose_threshold(*images, 0.05, seed=3)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_a_target_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ConfigError, match="the target error is"):
        choose_threshold(np.ones(3), np.ones(3, bool), target)
