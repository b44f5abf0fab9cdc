"""Calibration against its definitions, spelled out, and against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from miniclip.errors import ConfigError
from miniclip.probe.calibration import (
    brier,
    cross_calibrate,
    ece,
    ece_by_chance,
    equal_mass_bins,
    fit_temperature,
    nll,
    reliability_bins,
    softmax,
)
from tests.probe.score_tables import score_table


@pytest.mark.parametrize("factor", [0.01, 0.3, 1.0, 7.0, 500.0])
def test_the_temperature_undoes_what_the_scores_were_multiplied_by(factor: float) -> None:
    scores, labels = score_table(20_000)
    assert fit_temperature(scores * factor, labels) == pytest.approx(factor, rel=0.05)


def test_the_temperature_is_the_one_with_the_smallest_loss() -> None:
    scores, labels = score_table(700, edge=1)
    found = minimize(lambda t: log_loss(labels, softmax(scores * 4, t[0])), x0=[3.0], tol=1e-9)
    # The smoothing of one image's weight moves it by about one part in N.
    assert fit_temperature(scores * 4, labels) == pytest.approx(found.x[0], rel=0.01)


def test_a_set_without_a_mistake_leaves_room_for_doubt() -> None:
    labels = np.arange(60) % 3
    scores = 5.0 * np.eye(3)[labels]
    confidence = softmax(scores, fit_temperature(scores, labels)).max()
    assert 0.97 < confidence < 0.999  # about 1 - 1 / (N + 1)


def test_scores_that_say_nothing_or_the_opposite_give_a_usable_temperature() -> None:
    labels = np.arange(40) % 4
    assert fit_temperature(np.ones((40, 4)), labels) == 1.0
    opposite = softmax(-np.eye(4)[labels], fit_temperature(-np.eye(4)[labels], labels))
    assert opposite == pytest.approx(0.25, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-1e3, 1e3))
def test_neither_unit_nor_zero_point_of_the_scores_matter(
    seed: int, unit: float, zero: float
) -> None:
    scores, labels = score_table(50, seed=seed)
    plain = softmax(scores, fit_temperature(scores, labels))
    moved = scores * unit + zero
    assert softmax(moved, fit_temperature(moved, labels)) == pytest.approx(plain, abs=1e-4)


def test_a_fold_is_calibrated_by_the_others_alone() -> None:
    scores, labels = score_table(300)
    folds = np.arange(300) % 3
    whole = cross_calibrate(scores, labels, folds)
    flipped = np.where(folds == 1, (labels + 1) % 6, labels)  # other labels in fold 1 alone
    other = cross_calibrate(scores, flipped, folds)
    assert (other[folds == 1] == whole[folds == 1]).all()
    assert (other[folds != 1] != whole[folds != 1]).any()
    temperature = fit_temperature(scores[folds != 2], labels[folds != 2])
    assert (whole[folds == 2] == softmax(scores[folds == 2], temperature)).all()
    with pytest.raises(ConfigError, match="at least 2 folds"):
        cross_calibrate(scores, labels, np.zeros(300, int))


def test_ece_brier_and_nll_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])
    # Two bins: {0.6 wrong, 0.7 right} and {0.8 wrong, 0.9 right}.
    assert ece(probabilities, labels, bins=2) == pytest.approx((0.15 + 0.35) / 2)
    assert brier(probabilities, labels) == pytest.approx((0.02 + 1.28 + 0.18 + 0.72) / 4)
    assert nll(probabilities, labels) == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.4]).mean())
    low, high = reliability_bins(probabilities, labels, bins=2)
    assert low == pytest.approx((0.6, 0.7, 2, 0.65, 0.5))
    assert high == pytest.approx((0.8, 0.9, 2, 0.85, 0.5))


def naive_ece(confidence: list[float], hits: list[bool], bins: int) -> float:
    """Walk along the sorted images; a tie goes where its first image goes."""
    order = sorted(range(len(confidence)), key=lambda i: confidence[i])
    bin_of: dict[float, int] = {}
    members: dict[int, list[int]] = {}
    for rank, image in enumerate(order):
        number = rank * min(bins, len(order)) // len(order)
        members.setdefault(bin_of.setdefault(confidence[image], number), []).append(image)
    total = 0.0
    for images in members.values():
        accuracy = sum(hits[i] for i in images) / len(images)
        total += len(images) * abs(accuracy - sum(confidence[i] for i in images) / len(images))
    return total / len(confidence)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.75, 0.9, 1.0]), st.booleans()), min_size=1),
    st.integers(1, 20),
)
def test_ece_equals_the_walk_along_the_images(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence = [top for top, _ in rows]
    probabilities = np.array([[top, 1 - top] for top in confidence])
    labels = np.array([0 if hit else 1 for _, hit in rows])
    expected = naive_ece(confidence, [hit for _, hit in rows], bins)
    assert ece(probabilities, labels, bins) == pytest.approx(expected)
    assert sum(one.images for one in reliability_bins(probabilities, labels, bins)) == len(rows)


def test_bins_hold_equally_many() -> None:
    confidence = np.random.default_rng(0).random(2022)
    sizes = np.bincount(equal_mass_bins(confidence))
    assert len(sizes) == 15
    assert set(sizes) == {134, 135}


def test_chance_alone_makes_an_ece_and_we_know_how_much() -> None:
    """Calibrated tables of 2,022 images get the ECE that is foretold for them; never 0."""
    found, foretold = [], []
    for seed in range(30):
        scores, labels = score_table(2022, edge=5, seed=seed)
        found.append(ece(softmax(scores), labels))
        foretold.append(ece_by_chance(softmax(scores), seed=seed, draws=50).mean())
    assert np.mean(found) == pytest.approx(np.mean(foretold), rel=0.08)
    assert 0.005 < np.mean(found) < 0.02


def test_nothing_to_calibrate_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 rows"):
        fit_temperature(np.empty((0, 3)), np.empty(0, int))
    with pytest.raises(ConfigError, match="2 rows of scores and 3 labels"):
        fit_temperature(np.ones((2, 3)), np.array([0, 1, 2]))
