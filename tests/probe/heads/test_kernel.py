"""The kernel head against scikit-learn's kernel ridge, and its left-out errors against refits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from miniclip.arrays import FloatArray, IntArray
from miniclip.probe.heads import HeadSettings, Rows, fit_head, kernel, load_head
from miniclip.probe.heads.gaussian import gaussian
from miniclip.probe.heads.kernel import UNITS_TO_LOGITS, left_out_errors
from tests.probe.heads.blobs import blobs, in_space


def one_hot(labels: IntArray, classes: int) -> NDArray[Any]:
    return np.eye(classes)[labels]


def least_error(settings: dict[str, Any]) -> float:
    return float(min(settings["left_out_error"].values()))


def test_it_is_the_kernel_ridge_of_scikit_learn_on_centred_roots() -> None:
    rows, labels = blobs(70)
    head = fit_head("kernel", rows, labels, 3, settings=HeadSettings(gamma=0.7, c=5.0))
    placed = in_space(rows.features)
    far = [((a - b) ** 2).sum() for a in placed for b in placed]
    targets = one_hot(labels, 3)
    oracle = KernelRidge(kernel="rbf", gamma=0.7 / np.mean(far), alpha=1 / 5.0)
    oracle.fit(placed, targets - targets.mean(axis=0))
    expected = oracle.predict(placed) + targets.mean(axis=0)
    assert head.scores(rows) / UNITS_TO_LOGITS == pytest.approx(expected, abs=2e-3)


def test_left_out_errors_are_those_of_fits_without_the_group() -> None:
    rows, labels = blobs(30)
    targets = one_hot(labels, 3).astype(np.float32)
    groups = np.array([0, 0, 1, 1, 1, *range(5, 30)])
    groups[20] = 0
    matrix = gaussian(rows.features, rows.features, 0.01)
    errors = left_out_errors(matrix.copy(), targets, 0.3, groups)
    for row in range(30):
        others = np.flatnonzero(groups != groups[row])
        system = matrix[np.ix_(others, others)] + 0.3 * np.eye(len(others))
        weights = np.linalg.solve(system, targets[others])
        expected = targets[row] - matrix[row, others] @ weights
        assert errors[row] == pytest.approx(expected, abs=1e-3)


def test_the_penalty_grows_with_the_noise_in_the_labels() -> None:
    rows, labels = blobs(300, apart=2)
    wrong = np.where(np.arange(300) % 2, labels, np.random.default_rng(0).permutation(labels))
    clean, noisy = (fit_head("kernel", rows, these, 3).settings for these in (labels, wrong))
    assert noisy["penalty"] > clean["penalty"]
    assert least_error(noisy) > least_error(clean)


def test_copies_do_not_make_it_trust_what_it_has_seen() -> None:
    rows, labels = blobs(60, apart=0)
    labels = np.random.default_rng(0).permutation(labels)
    twice = np.tile(np.arange(60), 2)
    alone = fit_head("kernel", rows.take(twice), labels[twice], 3).settings
    grouped = fit_head("kernel", rows.take(twice), labels[twice], 3, groups=twice).settings
    assert least_error(alone) < 0.1
    assert least_error(grouped) > 0.6
    assert alone["penalty"] < grouped["penalty"]


def test_some_rows_can_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subset of regressors: (K' K + penalty L) weights = K' targets, L of the landmarks."""
    rows, labels = blobs(300, apart=1)
    monkeypatch.setattr(kernel, "EXACT_ROWS", 200)
    monkeypatch.setattr(kernel, "LANDMARKS", 60)
    head = fit_head("kernel", rows, labels, 3, settings=HeadSettings(c=1 / 0.3))
    support = head.arrays()["support"].astype(np.float64)
    assert support.shape == (60, 12)
    placed, rate = in_space(rows.features), head.settings["rate"]
    among, between = (
        np.array([[np.exp(-rate * ((a - b) ** 2).sum()) for b in support] for a in group])
        for group in (support, placed)
    )
    targets = one_hot(labels, 3)
    bias = targets.mean(axis=0)
    system = between.T @ between + 0.3 * among
    expected = between @ np.linalg.solve(system, between.T @ (targets - bias)) + bias
    assert head.scores(rows) / UNITS_TO_LOGITS == pytest.approx(expected, abs=5e-3)


def test_the_penalty_is_chosen_on_some_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = blobs(300)
    groups = np.arange(300) // 3
    looked_at: list[IntArray] = []

    def spy(matrix: FloatArray, targets: FloatArray, penalty: float, own: IntArray) -> FloatArray:
        looked_at.append(own)
        return left_out_errors(matrix, targets, penalty, own)

    monkeypatch.setattr(kernel, "left_out_errors", spy)
    monkeypatch.setattr(kernel, "CHOOSING_ROWS", 100)
    fit_head("kernel", rows, labels, 3, groups=groups)
    for own in looked_at:
        assert 100 <= len(own) < 103
        assert set(np.unique(own, return_counts=True)[1]) == {3}


def test_it_learns_what_no_line_can() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    labels = (features[:, 0] * features[:, 1] > 0).astype(np.int64)
    head = fit_head("kernel", Rows(features[:200], features[:200]), labels[:200], 2)
    told = head.scores(Rows(features[200:], features[200:])).argmax(axis=1)
    assert (told == labels[200:]).mean() > 0.9


@pytest.mark.parametrize("images", [3, 9])
def test_few_images_are_enough(images: int) -> None:
    rows, labels = blobs(images, apart=9)
    head = fit_head("kernel", rows, labels, 3)
    assert head.scores(rows).argmax(axis=1).tolist() == labels.tolist()


def test_features_that_say_nothing_give_the_shares_of_the_classes() -> None:
    same = np.ones((10, 4), np.float32)
    labels = np.array([0] * 7 + [1] * 3)
    scores = fit_head("kernel", Rows(same, same), labels, 2).scores(Rows(same, same))
    assert scores / UNITS_TO_LOGITS == pytest.approx(np.tile([0.7, 0.3], (10, 1)), abs=1e-3)


def test_a_seed_gives_the_same_bytes_and_a_saved_head_the_same_scores() -> None:
    rows, labels = blobs()
    one, two = (fit_head("kernel", rows, labels, 3, seed=4) for _ in range(2))
    assert {name: array.tobytes() for name, array in one.arrays().items()} == {
        name: array.tobytes() for name, array in two.arrays().items()
    }
    again = load_head("kernel", one.settings, one.arrays())
    assert (again.scores(rows) == one.scores(rows)).all()
    assert again.scores(rows.take(np.arange(0))).shape == (0, 3)
