"""The support vector machine in numpy against scikit-learn's own decisions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.svm import SVC

from miniclip.probe.heads import HeadSettings, fit_head, load_head
from miniclip.probe.heads.svm import SvmHead, coupled
from tests.probe.heads.blobs import blobs, in_space


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_decisions_are_those_of_scikit_learn(classes: int) -> None:
    rows, labels = blobs(100, classes=classes, apart=1)
    head = fit_head("svm", rows, labels, classes, settings=HeadSettings(gamma=0.8, c=3.0))
    assert isinstance(head, SvmHead)
    placed = in_space(rows.features)
    spread = np.mean([((a - b) ** 2).sum() for a in placed for b in placed])
    oracle = SVC(C=3.0, gamma=0.8 / spread, decision_function_shape="ovo").fit(placed, labels)
    expected = oracle.decision_function(placed)
    # For two classes scikit-learn counts towards the second.
    expected = -expected[:, None] if classes == 2 else expected
    assert head.decisions(rows) == pytest.approx(expected, abs=0.02)
    assert (head.scores(rows).argmax(axis=1) == oracle.predict(placed)).mean() > 0.97


def test_a_logit_is_the_log_of_what_the_pairs_give() -> None:
    decisions = np.random.default_rng(0).standard_normal((7, 6))
    logits = coupled(decisions, 4)
    for row in range(7):
        expected = [0.0] * 4
        for d, (first, second) in zip(decisions[row], combinations(range(4), 2), strict=True):
            expected[first] += np.log(1 / (1 + np.exp(-4 * d)))
            expected[second] += np.log(1 - 1 / (1 + np.exp(-4 * d)))
        assert logits[row] == pytest.approx(expected)


def test_it_chooses_the_least_loss_on_folds() -> None:
    rows, labels = blobs(120, apart=0.8)
    chosen = fit_head("svm", rows, labels, 3).settings
    losses = [
        fit_head("svm", rows, labels, 3, settings=HeadSettings(c=c)).settings["inner_loss"]
        for c in (1.0, 10.0, 100.0)
    ]
    assert chosen["inner_loss"] == min(losses)
    assert chosen["c"] == (1.0, 10.0, 100.0)[int(np.argmin(losses))]


def test_two_classes_are_judged_the_right_way_round() -> None:
    rows, labels = blobs(60, classes=2, apart=3)
    assert fit_head("svm", rows, labels, 2).settings["inner_loss"] < 0.2


def test_one_image_a_class_is_enough() -> None:
    rows, labels = blobs(3, apart=9)
    assert fit_head("svm", rows, labels, 3).scores(rows).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_seed_gives_the_same_bytes_and_a_saved_head_the_same_scores() -> None:
    rows, labels = blobs()
    one, two = (fit_head("svm", rows, labels, 3, seed=4) for _ in range(2))
    assert {name: array.tobytes() for name, array in one.arrays().items()} == {
        name: array.tobytes() for name, array in two.arrays().items()
    }
    again = load_head("svm", one.settings, one.arrays())
    assert (again.scores(rows) == one.scores(rows)).all()
