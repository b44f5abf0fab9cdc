"""`miniclip.Classifier` among scikit-learn's tools, on lists of paths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from miniclip import Classifier
from miniclip.errors import DatasetError, MissingExtraError
from miniclip.testing import FakeEncoder
from tests.probe.photos import make_photos


@pytest.fixture
def photos(tmp_path: Path) -> tuple[list[str], list[str]]:
    paths = sorted(make_photos(tmp_path / "photos", 20, spread=80).rglob("*.png"))
    return list(map(str, paths)), [path.parent.name for path in paths]


def small(**settings: Any) -> Classifier:
    usual: dict[str, Any] = {"bundle": FakeEncoder(), "folds": 3}
    return Classifier(**usual | settings)


def test_fit_predict_and_score(photos: tuple[list[str], list[str]]) -> None:
    train, test, known, truth = train_test_split(*photos, random_state=0, stratify=photos[1])
    classifier = small()
    assert classifier.fit(train, known) is classifier
    assert classifier.classes_.tolist() == ["apple", "leaf", "sea"]
    shares = classifier.predict_proba(test)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    answers = classifier.predict(test)
    np.testing.assert_array_equal(classifier.classes_[shares.argmax(axis=1)], answers)
    assert classifier.score(test, truth) == np.mean(answers == truth)
    assert classifier.score(test, truth) > 0.7


def test_labels_may_be_numbers_and_paths_may_be_paths(
    photos: tuple[list[str], list[str]],
) -> None:
    paths, labels = photos
    numbers = np.array([{"apple": 7, "leaf": -2, "sea": 0}[label] for label in labels])
    classifier = small().fit(np.array(paths), numbers)
    assert classifier.classes_.tolist() == [-2, 0, 7]
    answers = classifier.predict([Path(path) for path in paths])
    assert answers.dtype == numbers.dtype
    assert np.mean(answers == numbers) > 0.8


def test_probabilities_are_calibrated_on_folds(photos: tuple[list[str], list[str]]) -> None:
    calibrated, raw = small().fit(*photos), small(folds=0).fit(*photos)
    assert raw.temperature_ == 1
    assert calibrated.temperature_ != 1
    np.testing.assert_allclose(
        calibrated.decision_function(photos[0]), raw.decision_function(photos[0])
    )


def test_it_works_in_cross_validation_grids_and_pipelines(
    photos: tuple[list[str], list[str]],
) -> None:
    paths, labels = photos
    scores = cross_val_score(small(), paths, labels, cv=3)
    assert scores.min() > 0.6
    grouped = cross_val_score(small(), paths, labels, cv=GroupKFold(3), groups=range(len(paths)))
    assert len(grouped) == 3
    grid = GridSearchCV(small(), {"head": ["logistic", "prototype"]}, cv=2).fit(paths, labels)
    assert grid.best_params_["head"] in ("logistic", "prototype")
    pipeline = Pipeline([("as they are", FunctionTransformer()), ("classify", small())])
    np.testing.assert_array_equal(
        pipeline.fit(paths, labels).predict(paths), small().fit(paths, labels).predict(paths)
    )
    vote = VotingClassifier([("a", small()), ("b", small(head="prototype"))], voting="soft")
    assert vote.fit(paths, labels).score(paths, labels) > 0.8


def test_each_image_is_embedded_once(
    photos: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = FakeEncoder.encode_pixels

    def counted(self: FakeEncoder, pixels: Any) -> Any:
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(FakeEncoder, "encode_pixels", counted)
    cross_val_score(small(), *photos, cv=3)
    assert sum(seen) < 3 * 64  # as many folds embed what they see first, batches padded
    embedded = sum(seen)
    cross_val_score(small(), *photos, cv=5)
    assert sum(seen) == embedded


def test_an_image_may_be_given_twice(photos: tuple[list[str], list[str]]) -> None:
    paths, labels = photos
    classifier = small().fit(paths + paths[:5], labels + labels[:5])
    assert len(classifier.predict([paths[0], paths[0], paths[1]])) == 3


class Frame:
    """What a data frame or a series of any library has."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values, dtype=object)

    def to_numpy(self) -> Any:
        return self._values


def test_paths_may_stand_in_one_column(photos: tuple[list[str], list[str]]) -> None:
    paths, labels = photos
    expected = small().fit(paths, labels).decision_function(paths)
    columns = [[path] for path in paths]
    for given in (columns, np.array(columns), Frame(columns), Frame(paths)):
        np.testing.assert_array_equal(small().fit(given, labels).decision_function(given), expected)


def test_a_column_of_a_table_goes_through_a_pipeline(
    photos: tuple[list[str], list[str]],
) -> None:
    table = np.array([[path, "unused"] for path in photos[0]], dtype=object)
    chosen = ColumnTransformer([("path", "passthrough", [0])])
    pipeline = Pipeline([("choose", chosen), ("classify", small())])
    assert pipeline.fit(table, photos[1]).score(table, photos[1]) > 0.7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((60, 1)), r"X holds .*0\.0.*, which is no path; give paths"),
        (np.zeros((60, 3)), "which is no path; give paths of image files"),
        ([["a.png", "b.png"]] * 60, "which is no path; .* in one column"),
        ("photos", "X is the one path 'photos'"),
    ],
)
def test_what_is_no_list_of_paths_is_refused(given: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        small().fit(given, ["a", "b"] * 30)


@pytest.mark.train
def test_the_mlp_learns_where_torch_is(photos: tuple[list[str], list[str]]) -> None:
    classifier = small(head="mlp", folds=0, settings={"epochs": 30, "hidden": 16})
    assert classifier.fit(*photos).score(*photos) > 0.6
    assert classifier.head_.kind == "mlp"


def test_the_mlp_without_torch_says_what_is_missing(
    photos: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "miniclip.train.mlp", None)
    with pytest.raises(MissingExtraError, match=r"miniclip\[train\]"):
        small(head="mlp").fit(*photos)


def test_what_cannot_be_used_is_refused_by_name(
    photos: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    paths, labels = photos
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"1 of 61 images cannot be read; .*broken\.png"):
        small().fit([*paths, tmp_path / "broken.png"], [*labels, "sea"])
    with pytest.raises(DatasetError, match="needs two"):
        small().fit(paths[:5], labels[:5])
    with pytest.raises(ValueError, match="X has 60 images and y"):
        small().fit(paths, labels[:-1])
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        small().fit(paths, np.linspace(0, 1, 60))
    with pytest.raises(NotFittedError):
        small().predict(paths)


# The checks of scikit-learn that do not give the estimator a matrix of numbers: an image file is
# no row of numbers, so all checks that fit on generated matrices cannot apply.
CHECKS = (
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_mixin_order,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_set_params,
    estimator_checks.check_valid_tag_types,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_own(check: Any) -> None:
    check("Classifier", Classifier())


def test_a_clone_is_unfitted_and_fits_the_same(photos: tuple[list[str], list[str]]) -> None:
    fitted = small(settings={"c": 2.0}, head="logistic", seed=3).fit(*photos)
    copy = clone(fitted)
    assert not hasattr(copy, "classes_")
    assert copy.get_params() == fitted.get_params()
    np.testing.assert_array_equal(
        copy.fit(*photos).predict_proba(photos[0]), fitted.predict_proba(photos[0])
    )
    np.testing.assert_array_equal(  # fitting again changes nothing
        fitted.predict_proba(photos[0]), fitted.fit(*photos).predict_proba(photos[0])
    )
