"""The model directory: what is written is what is read, whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniclip.bundle import Bundle
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.errors import BundleError, ConfigError, MiniClipError, StoreError
from miniclip.index.vector_cache import VectorCache
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import ClassifierModel, recalibrated, write_model
from miniclip.probe.predict import Predictor
from tests.probe.photos import make_photos
from tests.tiny_bundle import build_tiny_bundle, edit_manifest


@pytest.fixture(scope="module")
def fitted(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    place = tmp_path_factory.mktemp("fit")
    splits = read_labelled_splits(make_photos(place / "photos", 15))
    with VectorCache.open(place / "cache.sqlite3") as cache:
        return fit_classifier(OnnxEncoder.open(tiny_bundle), splits, cache, FitSettings(folds=3))


@pytest.fixture
def directory(fitted: Fitted, tmp_path: Path) -> Path:
    write_model(tmp_path / "model", fitted.contents())
    return tmp_path / "model"


def test_a_model_that_is_read_predicts_as_the_one_that_was_written(
    fitted: Fitted, directory: Path
) -> None:
    opened = ClassifierModel.open(directory)
    table = fitted.prepared.table
    assert Predictor(opened).predict(table) == Predictor(fitted.model).predict(table)
    assert opened.files() == fitted.model.files()
    np.testing.assert_array_equal(opened.reference.features, fitted.model.reference.features)
    assert opened.reference.names == table.names


def test_the_directory_holds_these_files_and_none_of_them_runs_code(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == {
        "model.json", "head.npz", "gate.npz", "reference.npz", "images.json", "metrics.json",
        "model_card.md",
    }  # fmt: skip
    for path in directory.glob("*.npz"):
        with np.load(path, allow_pickle=False) as stored:
            assert all(stored[name].dtype != object for name in stored.files)
    facts = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    assert {"classes", "bundle", "head", "rules", "gate", "views", "about"} <= set(facts)
    assert {"data", "settings", "versions"} <= set(facts["about"])


def test_the_card_says_how_good_and_how_to_be_careful(fitted: Fitted) -> None:
    card = fitted.contents()["model_card.md"].decode()
    low, high = fitted.result.figures.scores.accuracy.interval
    assert f"{fitted.result.figures.scores.accuracy.value:.1%} [{low:.1%}, {high:.1%}]" in card
    for label in fitted.result.classes:
        assert f"| {label} | 15 |" in card
    assert "The four corners alone tell the class" in card


@pytest.mark.parametrize(
    "name", ["model.json", "head.npz", "gate.npz", "reference.npz", "images.json"]
)
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_model_is_refused(directory: Path, name: str, harm: str) -> None:
    path = directory / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MiniClipError, match=r"model .*(damaged|no model\.json)"):
        ClassifierModel.open(directory)


def test_a_model_of_a_newer_format_is_refused(directory: Path) -> None:
    path = directory / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(BundleError, match=r"format 99.*upgrade miniclip"):
        ClassifierModel.open(directory)


def test_an_older_model_is_replaced_but_nothing_else_is(
    fitted: Fitted, directory: Path, tmp_path: Path
) -> None:
    (directory / "old.txt").write_text("")
    write_model(directory, fitted.contents())
    assert not (directory / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["model"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is no fitted model"):
        write_model(tmp_path / "thesis", fitted.contents())
    assert (tmp_path / "thesis" / "thesis.txt").exists()


def test_what_cannot_be_written_leaves_the_old_model(
    fitted: Fitted, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    before = (directory / "head.npz").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left"):
        write_model(directory, fitted.contents())
    assert (directory / "head.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["model"]


# The bundle that it needs


@pytest.fixture
def other(tmp_path: Path) -> Bundle:
    bundle = build_tiny_bundle(tmp_path / "other")
    edit_manifest(bundle, name="other", image=bundle.manifest.image.to_dict() | {"mean": [0, 0, 0]})
    return Bundle.open(bundle.directory)


def test_another_bundle_is_refused_with_both_names(directory: Path, other: Bundle) -> None:
    model = ClassifierModel.open(directory)
    with pytest.raises(BundleError, match=r"fitted on the bundle 'tiny' .* this is 'other'"):
        model.find_bundle(other.directory)


def test_the_default_bundle_serves_if_it_is_the_right_one(
    directory: Path, tiny_bundle: Bundle, other: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ClassifierModel.open(directory)
    monkeypatch.setenv("MINICLIP_BUNDLE", str(tiny_bundle.directory))
    assert model.find_bundle().directory == tiny_bundle.directory
    monkeypatch.setenv("MINICLIP_BUNDLE", str(other.directory))
    with pytest.raises(BundleError, match=r"'tiny' .* this is 'other' .*--bundle"):
        model.find_bundle()


def test_a_copy_of_the_bundle_travels_with_the_model(
    fitted: Fitted, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", fitted.contents(), bundle=tiny_bundle.directory)
    moved = shutil.move(tmp_path / "model", tmp_path / "moved")
    found = ClassifierModel.open(moved).find_bundle()
    assert found.directory == tmp_path / "moved" / "bundle"
    assert found.fingerprint == tiny_bundle.fingerprint


def test_a_recalibrated_copy_has_other_rules_and_the_same_head(
    fitted: Fitted, directory: Path, tmp_path: Path
) -> None:

    model = ClassifierModel.open(directory)
    recalibrated(model, replace(model.rules, temperature=7.5), tmp_path / "new")
    copy = ClassifierModel.open(tmp_path / "new")
    assert copy.rules.temperature == 7.5
    assert (tmp_path / "new" / "head.npz").read_bytes() == (directory / "head.npz").read_bytes()
