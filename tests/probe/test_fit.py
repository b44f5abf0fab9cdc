"""A fit from end to end on small photos: who is judged by whom, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.errors import ConfigError, DatasetError, MissingExtraError
from miniclip.index.vector_cache import VectorCache
from miniclip.metrics import Interval
from miniclip.probe.abstain import NEVER
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.intervals import Score
from miniclip.probe.results import NaiveResult
from miniclip.probe.summary import summary
from miniclip.testing import FakeEncoder
from tests.probe.photos import COLOURS, make_photos

SETTINGS = FitSettings(folds=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 20, spread=90)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        yield cache


def run(data: Path, cache: VectorCache, settings: FitSettings = SETTINGS, **how: Any) -> Fitted:
    columns = {key: how.pop(key) for key in tuple(how) if key.endswith(("_regex", "_column"))}
    return fit_classifier(
        FakeEncoder(), read_labelled_splits(data, **columns), cache, settings, **how
    )


def test_every_image_is_judged_once_by_a_head_that_has_not_seen_it(
    photos: Path, cache: VectorCache
) -> None:
    fitted = run(photos, cache)
    result = fitted.result
    truth = [image.label for image in result.held_out]
    answers = [image.predicted for image in result.held_out]
    assert [image.name for image in result.held_out] == list(fitted.prepared.table.names)
    assert {image.fold for image in result.held_out} == {0, 1, 2}
    assert result.figures.scores.accuracy.value == accuracy_score(truth, answers)
    assert result.figures.scores.macro_f1.value == pytest.approx(
        f1_score(truth, answers, average="macro")
    )
    # The head in the model has seen them all, and knows better.
    own = [fitted.model.classes[row] for row in _scores(fitted).argmax(axis=1)]
    assert accuracy_score(truth, own) > accuracy_score(truth, answers)
    # Those that gave the answers are at hand, and stand by them.
    learnt, table = fitted.learnt, fitted.prepared.table
    for fold, head in enumerate(learnt.heads):
        rows = learnt.fold_of == fold
        scores = view_scores(head, table, learnt.rows[rows])
        np.testing.assert_array_equal(scores, learnt.scores[rows])
    assert result.features_computed == 60
    assert run(photos, cache).result.features_computed == 0


def test_the_json_holds_what_is_promised(photos: Path, cache: VectorCache) -> None:
    result = json.loads(json.dumps(run(photos, cache).result.to_dict(), allow_nan=False))
    for name in ("accuracy", "macro_f1", "ece", "coverage"):
        low, high = result[name]["interval"]
        assert 0 <= low <= result[name]["value"] <= high <= 1
    assert result["classes"] == list(COLOURS)
    assert set(result["per_class"]) == set(COLOURS)
    assert np.sum(result["confusion"]) == 60
    assert {"temperature", "bins"} <= set(result["calibration"])
    assert {"features", "fit"} <= set(result["seconds"])


def test_the_same_seed_gives_the_same_bytes_wherever_the_images_lie(
    photos: Path, cache: VectorCache, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "elsewhere" / photos.name))
    one, other = run(photos, cache).contents(), run(moved, cache).contents()
    assert one == other
    assert str(tmp_path).encode() not in b"".join(other.values())
    reseeded = run(photos, cache, FitSettings(folds=3, seed=1)).contents()
    assert reseeded["images.json"] != one["images.json"]


def test_repeats_stay_on_one_side_and_the_naive_split_profits(
    tmp_path: Path, cache: VectorCache
) -> None:
    """Labels are drawn at random, so a figure above chance is a leak."""
    rng = np.random.default_rng(0)
    pile = make_photos(tmp_path / "pile", 20, spread=90)
    for number, photo in enumerate(sorted(pile.rglob("*.png"))):
        folder = tmp_path / "data" / f"class{rng.integers(2)}"
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(4):
            shutil.copy(photo, folder / f"{number:03}-{copy}.png")
    settings = FitSettings(head="knn", overrides=("neighbours=1",), folds=3)
    result = run(tmp_path / "data", cache, settings).result
    assert result.repeats.exact == 180
    assert result.naive
    assert result.naive.accuracy.value > 0.9
    assert result.figures.scores.accuracy.value < 0.75
    folds: dict[str, set[int]] = {}
    for image in result.held_out:
        folds.setdefault(Path(image.name).name[:3], set()).add(image.fold)
    assert all(len(fold) == 1 for fold in folds.values())


@pytest.mark.parametrize(("repeats", "measured"), [("train", False), ("both", True), ("no", True)])
def test_the_naive_figure_of_given_parts_is_of_repeats_that_straddle_them(
    tmp_path: Path, cache: VectorCache, repeats: str, measured: bool
) -> None:
    for seed, part in enumerate(("train", "val")):
        make_photos(tmp_path / "data" / part, 15, seed=seed, spread=90)
    first = tmp_path / "data" / "train" / "apple" / "apple000.png"
    if repeats == "train":
        shutil.copy(first, first.with_name("copy.png"))
    elif repeats == "both":
        shutil.copy(first, tmp_path / "data" / "val" / "apple" / "copy.png")
    fitted = run(tmp_path / "data", cache)
    naive, clean = fitted.result.naive, fitted.result.figures.scores
    assert (naive is not None) == measured
    if repeats == "no":
        assert naive == NaiveResult(clean.accuracy, clean.macro_f1)
    said = summary(fitted.result)
    assert ("what they add on both was not measured" in said) == (repeats == "train")
    assert ("with these on both sides of the split" in said) == (repeats == "both")
    card = fitted.contents()["model_card.md"].decode()
    assert ("repeats straddle the split" in card) == measured


def test_groups_of_the_file_names_stay_together(photos: Path, cache: VectorCache) -> None:
    """The last digit stands for a patient."""
    result = run(photos, cache, group_regex=r"(\d)\.png").result
    folds: dict[str, set[int]] = {}
    for image in result.held_out:
        folds.setdefault(image.name[-5], set()).add(image.fold)
    assert len(folds) == 10
    assert all(len(fold) == 1 for fold in folds.values())
    assert result.figures.scores.groups == 10


def test_val_chooses_and_test_is_only_reported(tmp_path: Path, cache: VectorCache) -> None:
    data = tmp_path / "split"
    for seed, part in enumerate(("train", "val", "test")):
        make_photos(data / part, 15, seed=seed, spread=90)
    before = run(data, cache)
    assert [image.name.split("/")[0] for image in before.result.held_out] == ["val"] * 45
    assert {name.split("/")[0] for name in before.model.reference.names} == {"train"}
    assert before.result.test is not None
    assert before.result.test.scores.images == 45
    for photo in sorted((data / "test" / "apple").iterdir())[:10]:
        photo.rename(data / "test" / "sea" / f"not-{photo.name}")
    after = run(data, cache)
    assert after.result.test is not None
    assert after.result.test.scores.accuracy.value < before.result.test.scores.accuracy.value
    changed = {"model.json", "images.json", "metrics.json", "model_card.md"}  # name the test part
    for name, content in before.contents().items():
        assert name in changed or content == after.contents()[name]
    assert before.model.rules.to_dict() == after.model.rules.to_dict()


def test_test_images_that_repeat_training_images_are_counted_apart(
    tmp_path: Path, cache: VectorCache
) -> None:
    data = tmp_path / "split"
    make_photos(data / "train", 15, spread=90)
    make_photos(data / "test", 10, seed=1, spread=90)
    for label in COLOURS:
        shutil.copy(data / "train" / label / f"{label}000.png", data / "test" / label / "copy.png")
    result = run(data, cache).result
    assert result.repeats.across_parts == 3
    assert result.test is not None
    assert result.test_naive is not None
    assert (result.test.scores.images, result.test_naive.scores.images) == (30, 33)


def test_what_no_held_out_image_showed_is_not_left_to_the_machine(
    tmp_path: Path, cache: VectorCache
) -> None:
    """60 right answers would choose a threshold for 2 % of errors; the 40 of two folds cannot."""
    data = make_photos(tmp_path / "photos", 20)
    few = run(data, cache, FitSettings(folds=3, target_error=0.02))
    assert few.result.figures.scores.accuracy.value == 1.0
    assert not any(image.automatic for image in few.result.held_out)
    assert few.model.rules.threshold > 1
    assert few.model.rules.expected_error.interval == (0.0, 1.0)
    assert "to a person 100 %: no threshold" in few.result.figures.abstention.promise()
    enough = run(data, cache, FitSettings(folds=3, target_error=0.05))
    assert enough.model.rules.threshold <= 1
    assert "expected errors" in enough.result.figures.abstention.promise()


def test_a_threshold_that_no_image_reaches_is_not_called_missing(
    photos: Path, cache: VectorCache
) -> None:
    """On other images, such as those of an evaluation, the threshold of the model still stands."""
    found = run(photos, cache).result.figures.abstention
    none = replace(found, threshold=0.97, automatic=Score(0.0, Interval(0.0, 0.1), "exact"))
    assert "none of these images reaches the confidence of 97.0%" in none.outcome()
    assert "no threshold" in replace(none, threshold=NEVER).outcome()


def test_a_rival_head_is_compared_in_pairs(photos: Path, cache: VectorCache) -> None:
    result = run(photos, cache, FitSettings(folds=3, rivals=("kernel", "prototype"))).result
    same, prototype = result.rivals
    assert same.accuracy == result.figures.scores.accuracy
    assert same.comparison.verdict == "no difference"
    assert prototype.comparison.difference == pytest.approx(
        result.figures.scores.accuracy.value - prototype.accuracy.value
    )


# What cannot be learnt


def test_one_class_alone_is_refused(tmp_path: Path, cache: VectorCache) -> None:
    make_photos(tmp_path / "data", {"apple": 5})
    with pytest.raises(DatasetError, match="'apple' alone; a classifier needs at least two"):
        run(tmp_path / "data", cache)


def test_a_class_with_one_image_is_refused_by_name(tmp_path: Path, cache: VectorCache) -> None:
    make_photos(tmp_path / "data", {"apple": 9, "leaf": 9, "sea": 1})
    with pytest.raises(DatasetError, match=r"the class sea has 1 image.*leave the class out"):
        run(tmp_path / "data", cache)


def test_an_empty_folder_is_refused(tmp_path: Path, cache: VectorCache) -> None:
    make_photos(tmp_path / "data", {"apple": 5, "leaf": 0})
    with pytest.raises(DatasetError, match=r"no images in 1 of 2 class folders .*: leaf"):
        run(tmp_path / "data", cache)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DatasetError, match="no class folders"):
        run(tmp_path / "bare", cache)


def test_broken_files_are_named_and_the_rest_is_learnt(tmp_path: Path, cache: VectorCache) -> None:
    data = make_photos(tmp_path / "data", 20)
    broken = sorted(data.rglob("*.png"))[::3]  # a third of them
    for path in broken:
        path.write_bytes(path.read_bytes()[:50])
    result = run(data, cache).result
    names = {entry.name for entry in result.skipped}
    assert names == {path.relative_to(data).as_posix() for path in broken}
    assert result.figures.scores.images == 40


def test_a_class_of_broken_files_alone_is_refused_by_name(
    tmp_path: Path, cache: VectorCache
) -> None:
    data = make_photos(tmp_path / "data", 8)
    for path in (data / "sea").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"1 of 3 classes .* no readable image .*: sea"):
        run(data, cache)


def test_a_file_under_two_labels_is_left_out_by_name(tmp_path: Path, cache: VectorCache) -> None:
    data = make_photos(tmp_path / "data", 10)
    shutil.copy(data / "apple" / "apple000.png", data / "sea" / "same.png")
    result = run(data, cache).result
    assert {entry.name for entry in result.skipped} == {"apple/apple000.png", "sea/same.png"}
    assert "under two labels: apple/apple000.png (apple), sea/same.png (sea)" in (
        result.skipped[0].reason
    )
    (conflict,) = result.repeats.conflicts
    assert {conflict.first_label, conflict.second_label} == {"apple", "sea"}
    assert result.figures.scores.images == 29


def test_a_class_of_a_table_without_readable_files_is_refused_by_name(
    tmp_path: Path, cache: VectorCache
) -> None:
    photos = sorted(make_photos(tmp_path / "data", 8).rglob("*.png"))
    rows = [f"{photo.relative_to(tmp_path)},{photo.parent.name}" for photo in photos]
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(["path,label", *rows, "gone.png,rock"]), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"1 of 4 classes .* no readable image .*: rock"):
        run(table, cache)


def test_classes_of_nearly_one_name_are_kept_apart_with_a_warning(
    tmp_path: Path, cache: VectorCache
) -> None:
    data = make_photos(tmp_path / "data", 8)
    (data / "sea").rename(data / "Apple")
    result = run(data, cache).result
    assert result.classes == ("Apple", "apple", "leaf")
    (warning,) = result.warnings
    assert "'Apple' and 'apple' of data differ by their spelling alone" in warning


def test_a_part_without_a_class_is_named_once(tmp_path: Path, cache: VectorCache) -> None:
    data = tmp_path / "split"
    make_photos(data / "train", 15, spread=45)
    make_photos(data / "val", {"apple": 12, "leaf": 12}, seed=1, spread=45)
    make_photos(data / "test", {"sea": 10}, seed=2, spread=45)
    val, test = run(data, cache).result.warnings
    assert val.startswith("the val part has no image of sea: ")
    assert test.startswith("the test part has no image of apple, leaf: ")
    assert "macro F1 is the mean over classes that are in it or were answered" in test


def test_a_table_without_its_columns_is_refused(tmp_path: Path, cache: VectorCache) -> None:
    table = tmp_path / "photos.csv"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="columns"):
        run(table, cache)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head": "forest"}, "head is 'forest'; choose one of kernel"),
        ({"rivals": ("forest",)}, "head is 'forest'"),
        ({"preset": "robust"}, "the preset robust is one of the mlp head"),
        ({"overrides": ("epochs=3",)}, "unknown key epochs"),
        ({"mlp_overrides": ("epochs=3",)}, r"mlp\.epochs=3 has no effect without an MLP"),
        ({"views": "upside-down"}, "no views are called"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"target_error": 1.0}, "target_error is 1.0"),
        ({"sets": "tiny"}, "sets is 'tiny'; choose one of lac"),
    ],
)
def test_unusable_settings_are_refused_before_any_work(settings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FitSettings(**settings)


def test_the_mlp_head_needs_a_trainer(photos: Path, cache: VectorCache) -> None:
    with pytest.raises(MissingExtraError, match=r"miniclip\[train\]"):
        run(photos, cache, FitSettings(head="mlp", folds=3))


def _scores(fitted: Fitted) -> Any:
    return view_scores(fitted.model.head, fitted.prepared.table)
