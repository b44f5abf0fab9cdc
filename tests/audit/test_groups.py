"""An audit of a fitted classifier: held-out answers of the fit, new ones of other images."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from miniclip.audit.answers import Asked, ask_model
from miniclip.audit.columns import discover, subgroups_of
from miniclip.audit.groups import audit_groups
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.errors import ConfigError
from miniclip.evaluate.classifier import evaluate_classifier
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import REFERENCE_FILE, ClassifierModel, write_model
from miniclip.testing import FakeEncoder
from tests.audit.answers import made_up
from tests.probe.photos import make_photos


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Fit a model on a folder of photos; returns both."""
    root = tmp_path_factory.mktemp("audit")
    photos = make_photos(root / "photos", 20, spread=75)
    settings = FitSettings(head="logistic", folds=3)
    with VectorCache.open(root / "cache.sqlite3") as cache:
        found = fit_classifier(FakeEncoder(), read_labelled_splits(photos), cache, settings)
    write_model(root / "model", found.contents())
    return root / "model", photos


def ask(model: Path, data: Path, tmp_path: Path) -> Asked:
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        return ask_model(
            ClassifierModel.open(model), FakeEncoder(), read_labelled_splits(data), cache
        )


def test_images_of_the_fit_are_judged_by_what_was_held_out(
    fitted: tuple[Path, Path], tmp_path: Path
) -> None:
    model, photos = fitted
    opened = ClassifierModel.open(model)

    asked = ask(model, photos, tmp_path)

    assert (asked.kept, asked.new) == (60, 0)
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        seen = evaluate_classifier(opened, FakeEncoder(), read_labelled_splits(photos), cache)
    held_out = float(asked.answers.correct.mean())
    assert held_out < seen.figures.scores.accuracy.value  # the finished model has learnt from them
    facts = (model / "metrics.json").read_text()
    assert f'"value": {held_out}' in facts  # the accuracy that the fit reported
    assert asked.answers.covered is not None
    assert f'"value": {asked.answers.covered.mean()}' in facts


def test_new_images_are_asked_about_and_repeats_of_the_fit_left_out(
    fitted: tuple[Path, Path], tmp_path: Path
) -> None:
    model, photos = fitted
    mixed = make_photos(tmp_path / "mixed", 4, seed=7)
    copy = mixed / "leaf" / "copy.png"
    with Image.open(photos / "leaf" / "leaf000.png") as image:
        image.resize((56, 56)).save(copy)
        image.save(mixed / "leaf" / "same.png", compress_level=1)

    asked = ask(model, mixed, tmp_path)

    assert (asked.kept, asked.new) == (0, 12)
    (mixed / "leaf" / "original.png").write_bytes((photos / "leaf" / "leaf000.png").read_bytes())
    asked = ask(model, mixed, tmp_path)
    assert (asked.kept, asked.new) == (1, 12)
    assert {one.name for one in asked.skipped} == {"leaf/copy.png", "leaf/same.png"}


def test_a_model_without_hashes_says_that_it_misses_near_copies(
    fitted: tuple[Path, Path], tmp_path: Path
) -> None:
    model, photos = fitted
    old = shutil.copytree(model, tmp_path / "old")
    with np.load(old / REFERENCE_FILE) as known:
        np.savez(old / REFERENCE_FILE, **{name: known[name] for name in known if name != "hashes"})

    new = ask(old, make_photos(tmp_path / "new", 4, seed=7), tmp_path)

    assert new.warnings[-1].startswith("near-repeats were not looked for")
    assert not any("near-repeats" in warning for warning in ask(old, photos, tmp_path).warnings)


def test_a_model_fitted_before_sets_were_kept_says_so(
    fitted: tuple[Path, Path], tmp_path: Path
) -> None:
    model, photos = fitted
    old = tmp_path / "old"
    old.mkdir()
    for path in model.iterdir():
        text = path.read_bytes()
        (old / path.name).write_bytes(text.replace(b'"set"', b'"unknown"'))

    asked = ask(old, photos, tmp_path)

    assert asked.answers.covered is None
    assert "fit it again" in asked.warnings[-1]


def test_the_worst_subgroup_is_named_and_small_ones_are_only_shown() -> None:
    answers, subgroup = made_up(400, (0.9, 0.5))
    cells = ["old" if one else "new" for one in subgroup]
    cells[:4] = ["broken"] * 4

    result = audit_groups(Asked(answers, "made up", 0, 400, (), ()), {"camera": cells}, model="m")

    (column,) = result.columns
    assert [one.name for one in column.subgroups if not one.compared] == ["broken"]
    assert column.worst is not None
    assert column.worst.subgroup == "old"
    assert column.worst.perhaps == ("old",)
    assert any(alarm.startswith("camera: accuracy differs by") for alarm in result.alarms)
    assert "lowest for old" in str(result)
    said = result.to_dict()
    assert said["columns"][0]["gaps"][0]["name"] == "accuracy"
    assert said["columns"][0]["subgroups"][0]["recall"]["a"]["interval"][0] < 1


def test_overconfidence_of_one_subgroup_is_an_alarm_of_its_own() -> None:
    answers, subgroup = made_up(400, (0.85, 0.85), seed=1)
    bold = np.where(subgroup == 1, 0.99, 0.6)
    answers = dataclasses.replace(answers, confidence=bold)

    result = audit_groups(
        Asked(answers, "made up", 0, 400, (), ()), {"site": [f"s{one}" for one in subgroup]},
        model="m",
    )  # fmt: skip

    assert [gap.name for gap in result.columns[0].gaps if gap.alarm] == ["overconfidence"]


def test_columns_come_from_tables_folders_and_tags(tmp_path: Path) -> None:
    names = ("cat/day/1.jpg", "cat/night/2.jpg", "dog/3.jpg")
    paths = tuple(tmp_path / name for name in names)
    for path, camera in zip(paths, ("Pixel 8", "Pixel 8", ""), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if camera:
            exif[ExifTags.Base.Model] = camera
        Image.new("RGB", (8, 8)).save(path, exif=exif)
    table = tmp_path / "facts.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "site", "age"), (names[0], "A", 1), (f"./{names[1]}", "B", 2)]
        )

    def cells(column: str) -> list[str]:
        return subgroups_of(column, names, paths, table=table)

    assert cells("folder:2") == ["day", "night", "unknown"]
    assert cells("exif:camera") == ["Pixel 8", "Pixel 8", "unknown"]
    assert cells("file:format") == ["JPEG"] * 3
    assert cells("site") == ["A", "B", "unknown"]
    for bad, why in (
        ("dicom:PatientName", "may not name a subgroup"),
        ("exif:year", "no image has a value"),
        ("nothing", "does not name"),
    ):
        with pytest.raises(Exception, match=why):
            cells(bad)


def test_many_numbers_are_cut_into_quarters(tmp_path: Path) -> None:
    names = tuple(f"{row}.jpg" for row in range(100))
    table = tmp_path / "ages.csv"
    table.write_text("path,age,code\n" + "".join(f"{name},{name[:-4]},c{name}\n" for name in names))
    paths = tuple(tmp_path / name for name in names)

    ages = subgroups_of("age", names, paths, table=table)

    assert sorted(map(ages.count, set(ages))) == [25, 25, 25, 25]
    assert ages[0] == "up to 24.75"
    with pytest.raises(ConfigError, match="100 different values"):
        subgroups_of("code", names, paths, table=table)


def test_clusters_are_discovered_by_looks() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    features = centres[rng.permutation(np.repeat([0, 1, 2], [30, 20, 10]))]
    features += rng.normal(0, 0.05, features.shape).astype(np.float32)

    found = discover(features, 3, seed=0)

    assert [found.count(f"cluster {number}") for number in (1, 2, 3)] == [30, 20, 10]
    with pytest.raises(ConfigError, match="cannot cut"):
        discover(features, 40, seed=0)
