"""Figures against scikit-learn, their intervals against scikit-learn on resamples by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.probe import calibration
from miniclip.probe.calibration import Array, softmax
from miniclip.probe.scores import ClassifierScores, Score, score_classifier
from tests.probe.score_tables import score_table

NAMES = "abcdef"


def value(score: Score | None) -> float:
    assert score is not None
    return score.value


def every_score(scores: ClassifierScores) -> list[Score]:
    whole = [scores.accuracy, scores.macro_f1, scores.ece, scores.brier, scores.nll]
    for one in scores.per_class.values():
        parts = (one.precision, one.recall, one.f1, one.auroc)
        whole += [score for score in parts if score]
    return whole


def sklearn_figures(probabilities: Array, labels: IntArray) -> dict[str, float]:
    answers = probabilities.argmax(axis=1)
    return {
        "accuracy": sklearn_metrics.accuracy_score(labels, answers),
        "macro_f1": sklearn_metrics.f1_score(labels, answers, average="macro"),
        "nll": sklearn_metrics.log_loss(labels, probabilities, labels=range(6)),
        "recall": sklearn_metrics.recall_score(labels == 2, answers == 2),
        "precision": sklearn_metrics.precision_score(labels == 2, answers == 2),
        "auroc": sklearn_metrics.roc_auc_score(labels == 2, probabilities[:, 2]),
    }


def own_figures(scores: ClassifierScores) -> dict[str, Score | None]:
    of_class = scores.per_class["c"]
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "nll": scores.nll,
        "recall": of_class.recall,
        "precision": of_class.precision,
        "auroc": of_class.auroc,
    }


def test_every_figure_equals_that_of_scikit_learn() -> None:
    logits, labels = score_table(500)
    probabilities = softmax(logits)
    scores = score_classifier(probabilities, labels, NAMES, resamples=20)
    for name, expected in sklearn_figures(probabilities, labels).items():
        assert value(own_figures(scores)[name]) == pytest.approx(expected), name
    matrix = sklearn_metrics.confusion_matrix(labels, probabilities.argmax(axis=1))
    assert scores.confusion == tuple(map(tuple, matrix.tolist()))
    one_hot = np.eye(6)[labels]
    assert scores.brier.value == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean())
    assert scores.ece.value == pytest.approx(calibration.ece(probabilities, labels))


def test_intervals_equal_scikit_learn_on_resampled_patients() -> None:
    logits, labels = score_table(300, edge=1.5)
    probabilities = softmax(logits)
    patients = np.random.default_rng(1).integers(80, size=300)
    scores = score_classifier(probabilities, labels, NAMES, patients, resamples=2000)
    rng, by_hand = np.random.default_rng(2), []
    members = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    for _ in range(200):
        rows = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        by_hand.append(sklearn_figures(probabilities[rows], labels[rows]))
    for name, score in own_figures(scores).items():
        assert score is not None
        expected = np.quantile([one[name] for one in by_hand], [0.025, 0.975])
        width = expected[1] - expected[0]
        assert score.interval == pytest.approx(tuple(expected), abs=0.25 * width), name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.booleans())
def test_auroc_equals_scikit_learn_with_ties(seed: int, images: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(3), size=images)
    if coarse:
        shares = np.round(shares, 1)
    labels = rng.integers(3, size=images)
    scores = score_classifier(shares, labels, "abc", resamples=3)
    for c, name in enumerate("abc"):
        own = scores.per_class[name].auroc
        if (labels == c).all() or (labels != c).all():
            assert own is None
        else:
            expected = sklearn_metrics.roc_auc_score(labels == c, shares[:, c])
            assert value(own) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_intervals_are_finite_and_hold_their_figure(seed: int, images: int) -> None:
    """Tiny sets, in which most resamples miss a class."""
    rng = np.random.default_rng(seed)
    shares, labels = rng.dirichlet(np.full(4, 0.3), size=images), rng.integers(4, size=images)
    groups = rng.integers(5, size=images)
    for score in every_score(score_classifier(shares, labels, "abcd", groups, resamples=50)):
        low, high = score.interval
        assert np.isfinite([low, high]).all()
        assert 0 <= low <= score.value <= high


def test_a_perfect_classifier_is_not_certain_to_be_one() -> None:
    labels = np.arange(300) % 6
    scores = score_classifier(np.eye(6)[labels], labels, NAMES)
    for score in every_score(scores):
        low, high = score.interval
        assert high - low > 0.01, score
    assert scores.accuracy.interval == pytest.approx((0.9878, 1.0), abs=1e-4)
    assert value(scores.per_class["a"].recall) == 1.0
    recall = scores.per_class["a"].recall
    assert recall is not None
    assert recall.method == "exact"
    assert recall.interval.low == pytest.approx(0.9289, abs=1e-4)  # 50 of 50


def test_a_class_that_nobody_has_or_names_is_no_zero() -> None:
    shares = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    scores = score_classifier(shares, np.array([0, 1, 1]), "abc", resamples=50)
    empty = scores.per_class["c"]
    assert (empty.images, empty.recall, empty.precision, empty.f1, empty.auroc) == (0, *[None] * 4)
    assert scores.macro_f1.value == pytest.approx(
        sklearn_metrics.f1_score([0, 1, 1], [0, 1, 0], average="macro")
    )


def test_the_ece_of_a_calibrated_model_is_told_from_a_miscalibrated_one() -> None:
    """Of 40 sets each: an interval down to 0, and one that holds the true ECE and stays clear."""
    many_scores, many_labels = score_table(50_000, edge=2, seed=1000)
    truth = calibration.ece(softmax(many_scores * 2), many_labels)
    down_to_zero = clear = 0
    for seed in range(40):
        logits, labels = score_table(800, edge=2, seed=seed)
        low, _ = score_classifier(softmax(logits), labels, NAMES, resamples=100).ece.interval
        down_to_zero += low == 0
        low, high = score_classifier(softmax(logits * 2), labels, NAMES, resamples=100).ece.interval
        clear += 0.01 < low <= truth <= high
    assert down_to_zero >= 37
    assert clear >= 37


def test_shapes_and_labels_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(3, 2\) where \(3, 3\)"):
        score_classifier(np.ones((3, 2)), np.zeros(3, int), "abc")
    with pytest.raises(ConfigError, match="run from 0 to 3; with 3 classes"):
        score_classifier(np.ones((2, 3)), np.array([0, 3]), "abc")
    with pytest.raises(ConfigError, match="not finite"):
        score_classifier(np.full((2, 2), np.nan), np.array([0, 1]), "ab")
    with pytest.raises(ConfigError, match="0 images"):
        score_classifier(np.empty((0, 2)), np.empty(0, int), "ab")
