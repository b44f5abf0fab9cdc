"""A fitted model on new images: its figures, drift, recalibration, and classes by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

from miniclip.datasets.labelled_splits import LabelledSplits, read_labelled_splits
from miniclip.errors import BundleError, ConfigError, DatasetError
from miniclip.evaluate.classifier import evaluate_classifier, match_classes
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import ClassifierModel
from miniclip.testing import FakeEncoder
from tests.probe.photos import make_photos

SPREAD = 75


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path_factory.mktemp("cache") / "cache.sqlite3") as cache:
        yield cache


@pytest.fixture(scope="module")
def model(cache: VectorCache, tmp_path_factory: pytest.TempPathFactory) -> ClassifierModel:
    photos = make_photos(tmp_path_factory.mktemp("photos"), 80, spread=SPREAD)
    settings = FitSettings(folds=4, target_error=0.1)
    return fit_classifier(FakeEncoder(), read_labelled_splits(photos), cache, settings).model


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "new", 60, seed=1, spread=SPREAD)


def test_new_images_like_the_old_ones_score_alike_and_do_not_drift(
    model: ClassifierModel, cache: VectorCache, new: Path
) -> None:
    result = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(new), cache)
    truth = [image.label for image in result.held_out]
    answers = [image.predicted for image in result.held_out]
    assert result.figures.scores.accuracy.value == accuracy_score(truth, answers)
    assert result.figures.conformal.band.low <= result.figures.conformal.coverage.value
    assert result.drift.verdict == "no drift that matters"
    assert result.repeats_of_training == 0
    assert result.with_repeats is None
    assert "none of the 180 images repeats a training image" in str(result)


def test_a_black_bar_across_every_photo_is_drift(
    model: ClassifierModel, cache: VectorCache, new: Path
) -> None:
    for path in new.rglob("*.png"):
        with Image.open(path) as photo:
            photo.paste((0, 0, 0), (0, 0, 48, 24))
            photo.save(path)
    result = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(new), cache)
    assert result.drift.distance.drifted
    assert result.drift.verdict.startswith("drift: these images look different")


def test_images_of_the_fit_are_recognised(
    model: ClassifierModel, cache: VectorCache, tmp_path: Path
) -> None:
    same = make_photos(tmp_path / "same", 80, spread=SPREAD)
    for path in sorted(same.rglob("*.png"))[::4]:
        path.unlink()
    result = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(same), cache)
    assert result.repeats_of_training == result.figures.scores.images == 180
    assert result.repeats.left == 0
    assert "180 of 180 images are repeats of training images (180 byte copies" in str(result)
    assert "say nothing of new images" in result.warnings[-1]
    assert result.drift.verdict == "drift cannot be told from repeats of training images"
    with pytest.raises(ConfigError, match="all 180 images repeat training images"):
        evaluate_classifier(model, FakeEncoder(), read_labelled_splits(same), cache, recalibrate=30)


@pytest.fixture
def mixed(new: Path, tmp_path: Path) -> Path:
    """Return new photos, with ten byte copies and ten resized ones of apples of the fit."""
    old = sorted((make_photos(tmp_path / "old", 80, spread=SPREAD) / "apple").iterdir())
    for number, photo in enumerate(old[:10]):
        shutil.copy(photo, new / "apple" / f"copy{number}.png")
    for number, photo in enumerate(old[10:20]):
        with Image.open(photo) as picture:
            picture.resize((96, 96)).save(new / "apple" / f"near{number}.jpg", quality=90)
    return new


def test_repeats_of_training_images_do_not_judge(
    model: ClassifierModel, cache: VectorCache, mixed: Path
) -> None:
    result = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(mixed), cache)
    found = {Path(pair.second).name[:4]: pair.exact for pair in result.repeats.pairs}
    assert found == {"copy": True, "near": False}
    assert all(Path(pair.first).name[:5] == "apple" for pair in result.repeats.pairs)
    assert result.repeats_of_training == 20
    assert result.with_repeats is not None
    assert (result.figures.scores.images, result.with_repeats.scores.images) == (180, 200)
    for path in [*mixed.rglob("copy*"), *mixed.rglob("near*")]:
        path.unlink()
    alone = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(mixed), cache)
    assert result.figures.scores.confusion == alone.figures.scores.confusion
    assert result.drift.distance == alone.drift.distance
    assert result.held_out == alone.held_out


def test_both_figures_stand_side_by_side(
    model: ClassifierModel, cache: VectorCache, mixed: Path
) -> None:
    result = evaluate_classifier(model, FakeEncoder(), read_labelled_splits(mixed), cache)
    said = result.to_dict()
    assert said["repeats_of_training"] == 20
    assert {"exact": 10, "near": 10, "left": 180}.items() <= said["repeats"].items()
    assert said["with_repeats"]["macro_f1"]["interval"]
    assert said["with_repeats"]["accuracy"] != said["accuracy"]
    assert "20 of 200 images are repeats of training images (10 byte copies, 10 near" in str(result)
    assert result.with_repeats is not None
    accuracy = result.with_repeats.scores.accuracy
    assert f"with the repeats: {'accuracy':<28} {accuracy}" in str(result)


def test_repeats_are_never_drawn_to_recalibrate(
    model: ClassifierModel, cache: VectorCache, mixed: Path
) -> None:
    splits = read_labelled_splits(mixed)
    result = evaluate_classifier(model, FakeEncoder(), splits, cache, recalibrate=150)
    assert result.recalibrated is not None
    assert result.recalibrated.scores.images == 30
    with pytest.raises(ConfigError, match="there are 180 images that repeat no training image"):
        evaluate_classifier(model, FakeEncoder(), splits, cache, recalibrate=190)


def test_a_model_without_hashes_says_what_it_cannot_find(
    model: ClassifierModel, cache: VectorCache, mixed: Path
) -> None:
    older = replace(model, reference=replace(model.reference, hashes=None))
    result = evaluate_classifier(older, FakeEncoder(), read_labelled_splits(mixed), cache)
    assert result.repeats_of_training == 10
    assert result.repeats.to_dict()["near"] is None
    assert "near-repeats were not looked for" in result.repeats.verdict


def test_images_that_belong_with_a_repeat_do_not_judge_either(
    model: ClassifierModel, cache: VectorCache, mixed: Path
) -> None:
    splits = read_labelled_splits(mixed, group_regex=r"(copy|near|\w+\d\d)")
    grouped = evaluate_classifier(model, FakeEncoder(), splits, cache)
    assert grouped.repeats_of_training == 20
    splits = read_labelled_splits(mixed, group_regex=r"(apple|copy|near|sea|leaf)")
    joined = replace(
        splits,
        groups=tuple("p" if key in ("apple", "copy") else key for key in splits.groups or ()),
    )
    result = evaluate_classifier(model, FakeEncoder(), joined, cache)
    assert result.repeats_of_training == 80
    assert "60 that belong with one of these" in result.repeats.verdict


def test_recalibration_brings_a_broken_temperature_back(
    model: ClassifierModel, cache: VectorCache, new: Path
) -> None:
    boastful = replace(model, rules=replace(model.rules, temperature=0.02))
    result = evaluate_classifier(
        boastful, FakeEncoder(), read_labelled_splits(new), cache, recalibrate=80
    )
    assert result.recalibrated is not None
    assert result.before_recalibration is not None
    assert result.recalibrated_on == 80
    assert result.recalibrated.scores.images == result.before_recalibration.scores.images == 100
    assert result.recalibrated.scores.nll.value < result.before_recalibration.scores.nll.value / 2
    assert result.recalibrated.scores.accuracy == result.before_recalibration.scores.accuracy
    assert result.rules is not None
    assert result.rules.temperature == pytest.approx(model.rules.temperature, rel=0.6)


@pytest.mark.parametrize("images", [5, 180])
def test_too_few_or_all_images_cannot_recalibrate(
    model: ClassifierModel, cache: VectorCache, new: Path, images: int
) -> None:
    with pytest.raises(ConfigError, match=f"recalibrate is {images}, and there are 180 images"):
        evaluate_classifier(
            model, FakeEncoder(), read_labelled_splits(new), cache, recalibrate=images
        )


def test_another_encoder_is_refused(model: ClassifierModel, cache: VectorCache, new: Path) -> None:
    with pytest.raises(BundleError, match=r"fitted on the bundle 'fake' .* this is 'other'"):
        evaluate_classifier(model, FakeEncoder("other"), read_labelled_splits(new), cache)


# Classes by name


def splits_of(new: Path, **names: str) -> LabelledSplits:
    for old, name in names.items():
        (new / old).rename(new / name)
    return read_labelled_splits(new)


def test_classes_match_whatever_case_and_hyphens_and_order(new: Path) -> None:
    splits = splits_of(new, apple="Z-Apple", sea="A_SEA")
    matched, strangers = match_classes(splits, ("z apple", "leaf", "a sea"), skip_unknown=False)
    assert strangers == ()
    assert matched.labelled.classes == ("z apple", "leaf", "a sea")
    for source, label in zip(matched.labelled.sources, matched.labelled.labels, strict=True):
        folder = source.name.split("/")[0]
        assert {"Z-Apple": 0, "leaf": 1, "A_SEA": 2}[folder] == label


def test_the_exact_spelling_comes_first_and_no_two_classes_become_one(new: Path) -> None:
    splits = splits_of(new, apple="Glass", leaf="glass")
    matched, _ = match_classes(splits, ("glass", "Glass", "sea"), skip_unknown=False)
    for source, label in zip(matched.labelled.sources, matched.labelled.labels, strict=True):
        assert {"glass": 0, "Glass": 1, "sea": 2}[source.name.split("/")[0]] == label
    (new / "Glass").rename(new / "GLASS")
    with pytest.raises(DatasetError, match="'GLASS' could be 'glass' or 'Glass'; spell it as one"):
        match_classes(read_labelled_splits(new), ("glass", "Glass", "sea"), skip_unknown=True)


def test_an_unknown_class_is_refused_or_skipped_by_name(
    model: ClassifierModel, cache: VectorCache, new: Path
) -> None:
    splits = splits_of(new, sea="ocean")
    with pytest.raises(DatasetError, match=r"does not know: ocean .*it knows apple.*skip-unknown"):
        evaluate_classifier(model, FakeEncoder(), splits, cache)
    result = evaluate_classifier(model, FakeEncoder(), splits, cache, skip_unknown=True)
    assert result.figures.scores.images == 120
    assert len(result.skipped) == 60
    assert "does not know the class 'ocean'" in result.skipped[0].reason
    assert result.figures.scores.per_class["sea"].recall is None
    assert np.sum(result.figures.scores.confusion[2]) == 0


def test_a_data_set_of_strangers_alone_is_refused(new: Path) -> None:
    splits = splits_of(new, apple="a", leaf="b", sea="c")
    with pytest.raises(DatasetError, match="does not know: a, b, c"):
        match_classes(splits, ("apple", "leaf", "sea"), skip_unknown=True)
