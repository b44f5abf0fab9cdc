"""The linear head against scikit-learn on the same standardised features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from miniclip.probe.heads import HeadSettings, Rows, fit_head, load_head
from miniclip.probe.heads.head import Training
from miniclip.probe.heads.inner_folds import inner_folds
from miniclip.probe.heads.linear import spread_of
from miniclip.probe.heads.logistic import C_GRID, principal_axes
from tests.probe.heads.blobs import blobs


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("features", [12, 200])  # fewer and more than rows
def test_it_is_the_optimum_that_scikit_learn_finds_without_any_axes(
    classes: int, features: int
) -> None:
    rows, labels = blobs(80, features=features, classes=classes)
    head = fit_head("logistic", rows, labels, classes, settings=HeadSettings(c=0.05))
    standardised = StandardScaler().fit_transform(rows.features.astype(np.float64))
    oracle = LogisticRegression(C=0.05, tol=1e-8, max_iter=10_000).fit(standardised, labels)
    scores = head.scores(rows)
    odds = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert odds == pytest.approx(oracle.predict_proba(standardised), abs=2e-3)


def test_the_axes_span_the_rows() -> None:
    rng = np.random.default_rng(0)
    for shape in ((5, 30), (30, 5)):
        rows = rng.standard_normal(shape).astype(np.float32)
        rows[:, 0] = rows[:, 1]  # one axis less
        axes = principal_axes(rows)
        assert axes.shape == (shape[1], 5 if shape[0] == 5 else 4)
        assert axes.T @ axes == pytest.approx(np.eye(axes.shape[1]), abs=1e-5)
        assert rows @ axes @ axes.T == pytest.approx(rows, abs=1e-5)


def test_the_penalty_is_the_one_with_the_least_held_out_loss() -> None:
    rows, labels = blobs(120, apart=0.4)
    head = fit_head("logistic", rows, labels, 3)
    losses = {float(c): loss for c, loss in head.settings["inner_loss"].items()}
    assert list(losses) == list(C_GRID[: len(losses)])
    assert head.settings["c"] == min(losses, key=lambda c: losses[c])
    assert min(losses) < head.settings["c"] < max(losses) < max(C_GRID)  # it stops when it is past

    standardised = StandardScaler().fit_transform(rows.features.astype(np.float64))
    folds = inner_folds(Training(rows, labels, 3, groups=np.arange(120)))
    for c, loss in losses.items():  # every penalty from a cold start
        total = 0.0
        for fitted, judged in folds:
            oracle = LogisticRegression(C=c, tol=1e-8, max_iter=10_000)
            oracle.fit(standardised[fitted], labels[fitted])
            told = oracle.predict_log_proba(standardised[judged])
            total -= told[np.arange(len(judged)), labels[judged]].sum()
        assert loss == pytest.approx(total / 120, rel=0.01)


def test_copies_do_not_make_it_trust_what_it_has_seen() -> None:
    """Noise with every image five times: only groups show that nothing can be learned."""
    rng = np.random.default_rng(0)
    rows, labels = blobs(60, apart=0.0, features=40)
    labels = rng.permutation(labels)
    five = np.tile(np.arange(60), 5)
    alone = fit_head("logistic", rows.take(five), labels[five], 3)
    grouped = fit_head("logistic", rows.take(five), labels[five], 3, groups=five)
    assert alone.settings["c"] >= 1
    assert grouped.settings["c"] <= 1e-3


def test_one_image_a_class_is_enough() -> None:
    rows, labels = blobs(3, apart=9)
    head = fit_head("logistic", rows, labels, 3)
    assert head.scores(rows).argmax(axis=1).tolist() == labels.tolist()
    assert head.settings["inner_loss"] == {}


def test_a_constant_feature_and_a_rare_class_do_no_harm() -> None:
    rows, labels = blobs(61, apart=5)
    features = rows.features.copy()
    features[:, 3] = 7.0
    labels = np.where(np.arange(61) == 60, 3, labels)
    head = fit_head("logistic", Rows(features, rows.embeddings), labels, 4)
    scores = head.scores(Rows(features, rows.embeddings))
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) == labels)[:60].mean() > 0.95


def test_a_column_that_varies_by_rounding_alone_is_not_blown_up() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([rng.standard_normal(50) * 1e-3, np.full(50, 7.0)], axis=1).astype(
        np.float32
    )
    columns[::2, 1] = np.nextafter(np.float32(7), np.float32(8))
    mean, scale = spread_of(columns)
    assert mean == pytest.approx(columns.mean(axis=0))
    assert scale == pytest.approx([columns[:, 0].std(), 1.0])


def test_a_seed_gives_the_same_bytes_and_a_saved_head_the_same_scores() -> None:
    rows, labels = blobs()
    one, two = (fit_head("logistic", rows, labels, 3, seed=4) for _ in range(2))
    assert {name: array.tobytes() for name, array in one.arrays().items()} == {
        name: array.tobytes() for name, array in two.arrays().items()
    }
    again = load_head("logistic", one.settings, one.arrays())
    assert (again.scores(rows) == one.scores(rows)).all()
    assert again.kind == "logistic"
