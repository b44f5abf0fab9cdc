"""Prediction sets against MAPIE's, and their coverage against the exact band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import RAPSConformityScore
from numpy.typing import NDArray
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit

from miniclip.errors import ConfigError
from miniclip.probe import conformal
from miniclip.probe.calibration import softmax
from miniclip.probe.conformal import (
    EVERY_LABEL,
    coins_of,
    conformal_quantiles,
    conformity,
    coverage_band,
    prediction_sets,
)
from tests.probe.score_tables import score_table

Table = tuple[NDArray[np.float64], NDArray[np.int64]]
WHOLE = {"include_last_label": True}


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier for MAPIE whose images are their own probabilities."""

    def __init__(self, classes: int = 6) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)
        self.fitted_ = True

    def fit(self, images: Any, labels: Any) -> Given:
        return self

    def predict_proba(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        return images

    def predict(self, images: NDArray[np.float64]) -> NDArray[np.int64]:
        answers: NDArray[np.int64] = images.argmax(axis=1)
        return answers


def halves(classes: int, *, sharpness: float = 1.0, images: int = 800) -> tuple[Table, Table]:
    scores, labels = score_table(images, classes, edge=1.5)
    probabilities, half = softmax(scores, 1 / sharpness), images // 2
    return (probabilities[:half], labels[:half]), (probabilities[half:], labels[half:])


def mapie_sets(
    method: Any, calibration: Table, test: NDArray[np.float64], alpha: float, **options: Any
) -> NDArray[np.bool_]:
    model = SplitConformalClassifier(
        Given(test.shape[1]), confidence_level=1 - alpha, conformity_score=method, random_state=3
    ).conformalize(*calibration)
    sets: NDArray[np.bool_] = model.predict_set(test, options or None)[1][:, :, 0]
    return sets


def mapie_coins(images: int) -> NDArray[np.float64]:
    """Draw the random numbers of MAPIE, which counts a label's share from the other end."""
    return 1 - np.random.RandomState(3).uniform(size=images)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize(("classes", "sharpness"), [(3, 1), (6, 1), (6, 3), (12, 1)])
def test_sets_equal_those_of_mapie(alpha: float, classes: int, sharpness: float) -> None:
    (shares, labels), (test, _) = halves(classes, sharpness=sharpness)
    coins = mapie_coins(len(labels))

    lac = prediction_sets(test, conformal_quantiles(shares, labels, alpha))
    assert (lac == mapie_sets("lac", (shares, labels), test, alpha)).all()

    quantile = conformal_quantiles(shares, labels, alpha, "aps", coins=coins)
    whole = prediction_sets(test, quantile, "aps-whole")
    assert (whole == mapie_sets("aps", (shares, labels), test, alpha, **WHOLE)).all()
    thrown = prediction_sets(test, quantile, "aps", coins=mapie_coins(len(test)))
    random = {"include_last_label": "randomized"}
    assert (thrown == mapie_sets("aps", (shares, labels), test, alpha, **random)).all()


def test_raps_sets_equal_those_of_mapie(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAPIE chooses penalty and free labels on a part of the images; we are told what it chose."""
    (shares, labels), (test, _) = halves(12)
    score = RAPSConformityScore()
    expected = mapie_sets(score, (shares, labels), test, 0.1, **WHOLE)
    monkeypatch.setattr(conformal, "RAPS_PENALTY", float(score.lambda_star))
    monkeypatch.setattr(conformal, "RAPS_FREE", int(score.k_star[0]))
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=len(score.X_raps), random_state=3)
    rest, _ = next(splitter.split(shares, labels))
    coins = mapie_coins(len(rest))
    quantile = conformal_quantiles(shares[rest], labels[rest], 0.1, "raps", coins=coins)
    assert quantile == pytest.approx(score.quantiles_)
    assert (prediction_sets(test, quantile, "raps-whole") == expected).all()


@pytest.mark.parametrize("images", range(1, 60))
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.3])
def test_the_quantile_is_the_kth_smallest_score(images: int, alpha: float) -> None:
    probabilities = np.random.default_rng(images).dirichlet(np.ones(3), size=images)
    labels = np.zeros(images, dtype=np.int64)
    (quantile,) = conformal_quantiles(probabilities, labels, alpha)
    # In hundredths, where (n + 1) (1 - alpha) is exact.
    k = -(-(images + 1) * (100 - round(100 * alpha)) // 100)
    scores = sorted((1 - probabilities[:, 0]).tolist())
    assert quantile == pytest.approx(scores[k - 1] if k <= images else EVERY_LABEL)


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_coverage_of_200_splits_lies_in_the_exact_band(method: str, sharpness: float) -> None:
    """However over-confident the scores are."""
    scores, labels = score_table(600, edge=2)
    probabilities = softmax(scores, 1 / sharpness)
    rng = np.random.default_rng(5)
    coins = rng.random(600)
    for alpha in (0.05, 0.1):
        found = []
        for _ in range(200):
            order = rng.permutation(600)
            fit, test = order[:300], order[300:]
            quantile = conformal_quantiles(
                probabilities[fit], labels[fit], alpha, method, coins=coins[fit]
            )
            sets = prediction_sets(probabilities[test], quantile, method, coins=coins[test])
            found.append(sets[np.arange(300), labels[test]].mean())
        low, high = coverage_band(300, 300, alpha, splits=200)
        assert low <= np.mean(found) <= high
        low, high = coverage_band(300, 300, alpha)
        assert np.mean([low <= one <= high for one in found]) >= 0.97


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_probabilities_that_round_to_1_can_only_make_sets_too_large(method: str) -> None:
    """At a sharpness of 60, wrong answers tie at probability 1.0: nothing ranks them any more."""
    scores, labels = score_table(2000, edge=2)
    probabilities, coins = softmax(scores, 1 / 60), np.random.default_rng(0).random(2000)
    fit = np.arange(2000) < 1000
    quantile = conformal_quantiles(probabilities[fit], labels[fit], 0.1, method, coins=coins[fit])
    sets = prediction_sets(probabilities[~fit], quantile, method, coins=coins[~fit])
    assert sets[np.arange(1000), labels[~fit]].mean() > coverage_band(1000, 1000, 0.1).high


def test_whole_sets_are_never_empty_and_hold_the_others() -> None:
    (shares, labels), (test, _) = halves(6)
    for method in ("aps", "raps"):
        coins, test_coins = (np.random.default_rng(n).random(400) for n in (0, 1))
        quantile = conformal_quantiles(shares, labels, 0.2, method, coins=coins)
        whole = prediction_sets(test, quantile, f"{method}-whole")
        assert whole.any(axis=1).all()
        assert (prediction_sets(test, quantile, method, coins=test_coins) <= whole).all()


def test_each_class_keeps_the_promise_by_itself() -> None:
    """A rare class that the model hardly knows: covered on average only, or for its own sake."""
    rng = np.random.default_rng(0)
    labels = (rng.random(8000) < 0.1).astype(np.int64)
    scores = rng.normal(size=(8000, 2)) + np.array([2.0, 0.0])
    scores[labels == 1, 1] += 1
    shares, fit = softmax(scores), np.arange(8000) < 4000
    covered = {}
    for per_class in (False, True):
        quantiles = conformal_quantiles(shares[fit], labels[fit], 0.1, per_class=per_class)
        assert quantiles.shape == ((2,) if per_class else (1,))
        sets = prediction_sets(shares[~fit], quantiles)
        rare = labels[~fit] == 1
        covered[per_class] = sets[rare, 1].mean()
    low, high = coverage_band(int((labels[fit] == 1).sum()), int(rare.sum()), 0.1)
    assert covered[False] < 0.5
    assert low <= covered[True] <= high


def test_the_band_is_beta_binomial() -> None:
    low, high = coverage_band(1000, 500, 0.1)
    expected = betabinom.ppf([0.005, 0.995], 500, 901, 100) / 500  # floor(1001 * 0.1) = 100
    assert (low, high) == pytest.approx(tuple(expected))
    # Angelopoulos and Bates 2021, table 1 counts the same with test images without end.
    assert coverage_band(1000, 200_000, 0.1, confidence=0.9) == pytest.approx(
        (0.884, 0.915), abs=2e-3
    )
    assert coverage_band(8, 100, 0.1) == (1.0, 1.0)  # too few images to leave a label out
    rng = np.random.default_rng(0)
    means = betabinom.rvs(30, 46, 5, size=(4000, 20), random_state=rng).mean(axis=1) / 30
    assert coverage_band(50, 30, 0.1, splits=20) == pytest.approx(
        tuple(np.quantile(means, [0.005, 0.995])), abs=0.006
    )


def test_coins_are_fair_and_belong_to_the_file() -> None:
    contents = [f"{n:064x}" for n in np.random.default_rng(0).integers(2**62, size=2000)]
    contents = [content[::-1] for content in contents]
    coins = coins_of(contents)
    assert (coins == coins_of(contents)).all()
    assert ((coins >= 0) & (coins < 1)).all()
    assert np.quantile(coins, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.04)


def test_what_makes_no_sets_is_refused() -> None:
    shares, labels = np.full((4, 2), 0.5), np.zeros(4, dtype=np.int64)
    with pytest.raises(ConfigError, match="alpha is"):
        conformal_quantiles(shares, labels, 1.5)
    with pytest.raises(ConfigError, match="'top'; use lac, aps"):
        conformity(shares, "top")
    with pytest.raises(ConfigError, match="aps sets need a coin"):
        conformal_quantiles(shares, labels, 0.1, "aps")
    with pytest.raises(ConfigError, match="0 and 5 images"):
        coverage_band(0, 5, 0.1)
