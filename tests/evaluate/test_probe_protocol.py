"""The probe of the CLIP paper against a search by scikit-learn on the same features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import DatasetError
from miniclip.evaluate.probe_protocol import (
    C_GRID,
    MAX_ITERATIONS,
    Parts,
    choose_c,
    few_shot,
    few_shot_draws,
    make_parts,
    probe,
)


def blobs(images: int, features: int, *, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Three overlapping classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    centres = rng.normal(size=(3, features))
    rows = centres[labels] + 1.5 * rng.normal(size=(images, features))
    return rows.astype(np.float32), labels


def thirds(images: int) -> Parts:
    rows = np.arange(images)
    return Parts(rows[rows % 4 < 2], rows[rows % 4 == 2], rows[rows % 4 == 3])


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("features", [4, 60], ids=["more images", "more features"])
def test_the_full_sweep_is_a_grid_search_of_scikit_learn(features: int) -> None:
    rows, labels = blobs(84, features)
    parts = thirds(len(rows))
    learnt = np.r_[parts.train, parts.val]
    folds = PredefinedSplit([-1] * len(parts.train) + [0] * len(parts.val))
    direct = GridSearchCV(
        LogisticRegression(max_iter=MAX_ITERATIONS), {"C": list(C_GRID)}, cv=folds
    )
    direct.fit(rows[learnt].astype(np.float64), labels[learnt])

    fit = probe(rows, labels, parts, "grid")

    assert list(fit.validation) == list(C_GRID)
    assert list(fit.validation.values()) == pytest.approx(direct.cv_results_["mean_test_score"])
    assert fit.c == pytest.approx(direct.best_params_["C"])
    assert fit.predicted.tolist() == direct.predict(rows[parts.test].astype(np.float64)).tolist()
    assert fit.converged


def test_the_binary_search_tries_few_values_and_finds_the_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, labels = blobs(84, 6)
    parts = thirds(len(rows))
    asked: list[float] = []

    class OfOnePeak:
        """Right on as many images as C is near 10^0.375."""

        n_iter_ = np.array([1])

        def __init__(self, c: float) -> None:
            asked.append(c)
            self.right = 21 - round(8 * abs(np.log10(c) - 0.375))

        def predict(self, judged: FloatArray) -> IntArray:
            return np.where(np.arange(len(judged)) < self.right, labels[parts.val], -1)

    monkeypatch.setattr(
        "miniclip.evaluate.probe_protocol._fitted", lambda _rows, _labels, c: OfOnePeak(c)
    )
    c, validation = choose_c(rows, labels, parts.train, parts.val, "binary")
    assert validation[c] == max(validation.values()) == 1.0
    assert len(asked) == len(set(asked)) <= 7 + 4 * 2
    assert np.log10(c) == pytest.approx(0.375)


def test_parts_of_the_data_set_are_kept_and_missing_ones_are_a_fifth() -> None:
    labels = np.arange(100) % 2
    group = np.arange(100) // 4
    plain = make_parts(labels, np.full(100, "train"), group, seed=3)
    assert len(plain.test) == 20
    assert len(plain.val) == 16
    assert sorted(np.r_[plain.train, plain.val, plain.test].tolist()) == list(range(100))
    for one, other in (
        (plain.train, plain.test),
        (plain.train, plain.val),
        (plain.val, plain.test),
    ):
        assert not set(group[one]) & set(group[other])

    given = np.array(["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    own = make_parts(labels, given, group, seed=3)
    assert own.val.tolist() == list(range(60, 80))
    assert own.test.tolist() == list(range(80, 100))

    without_test = make_parts(labels, given[:80], group[:80], seed=3)
    assert without_test.test.tolist() == list(range(60, 80))
    assert len(without_test.val) == 12


def test_a_class_that_is_only_tested_is_refused() -> None:
    labels = np.array([0, 1] * 10 + [2] * 2)
    part = np.array(["train"] * 20 + ["test"] * 2)
    with pytest.raises(DatasetError, match="no training images"):
        make_parts(labels, part, np.arange(22), seed=0)


def test_shots_are_drawn_anew_by_seed_and_of_different_pictures() -> None:
    labels, pool = np.arange(60) % 3, np.arange(5, 60)
    group = np.arange(60) // 6
    drawn = list(few_shot_draws(labels, group, pool, shots=2, draws=3, seed=1))
    again = list(few_shot_draws(labels, group, pool, shots=2, draws=3, seed=1))
    assert [train.tolist() for train, _ in drawn] == [train.tolist() for train, _ in again]
    assert len({tuple(train.tolist()) for train, _ in drawn}) == 3
    for train, val in drawn:
        assert np.bincount(labels[train]).tolist() == [2, 2, 2]
        assert np.bincount(labels[val]).tolist() == [2, 2, 2]
        assert np.isin(np.r_[train, val], pool).all()
        for label in range(3):
            rows = [row for row in np.r_[train, val] if labels[row] == label]
            assert len(set(group[rows])) == 4


def test_more_shots_than_pictures_are_refused_by_name() -> None:
    labels = np.arange(30) % 3
    with pytest.raises(DatasetError, match=r"16 shots and 4 to validate need 20 .* has 10"):
        next(few_shot_draws(labels, np.arange(30), np.arange(30), shots=16, draws=2, seed=0))


def test_a_few_shots_of_plain_classes_are_enough() -> None:
    labels = np.arange(90) % 3
    rows = (np.eye(3)[labels] * 5).astype(np.float32)
    (drawn,) = few_shot_draws(labels, np.arange(90), np.arange(60), shots=1, draws=1, seed=0)
    test = np.arange(60, 90)
    assert few_shot(rows, labels, test, drawn, "binary").tolist() == labels[test].tolist()
