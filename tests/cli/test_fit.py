"""`miniclip fit` and `miniclip predict` as their users see them, on the tiny bundle of colours."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.index.vector_cache import FILE_NAME
from tests.cli.conftest import Cli
from tests.probe.photos import COLOURS, make_photos
from tests.tiny_bundle import build_tiny_bundle, edit_manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "fruit", 15, spread=25)


@pytest.fixture
def model(cli: Cli, data: Path, tmp_path: Path) -> Path:
    # A hundredth of errors cannot be promised after 45 images.
    cli("fit", data, "-o", tmp_path / "model", "--folds", 3, "--target-error", 0.1)
    return tmp_path / "model"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fit_says_how_good_it_is_and_writes_the_model(cli: Cli, data: Path, tmp_path: Path) -> None:
    said = cli("fit", data, "-o", tmp_path / "model", "--folds", 3)
    assert said.code == 0
    assert "45 images of 3 classes" in said.out
    assert "to a person" in said.out
    assert "wrote the model to" in said.err
    page = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    assert "miniclip fit fruit --folds 3 -o MODEL" in page
    assert str(tmp_path) not in page


def test_fit_without_a_place_for_the_model_names_it_after_the_data(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = cli("fit", data, "--folds", 3, "--json").json
    assert said["model"] == "fruit-model"
    assert (tmp_path / "here" / "fruit-model" / "model.json").exists()
    assert {"value", "interval"} <= set(said["accuracy"])


def test_two_fits_write_the_same_bytes_report_included(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        assert cli("fit", data, "-o", tmp_path / name, "--folds", 3).code == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_the_command_on_record_makes_the_model_again(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["--folds", "3", "--head", "logistic", "--set", "c=0.5", "--seed", "4"]
    chosen += ["--views", "flip", "--per-class-sets", "--compare", "prototype"]
    chosen += ["--group-regex", r"(\d\d)\.png"]
    cli("fit", data, "-o", tmp_path / "one", *chosen)
    command = json.loads((tmp_path / "one" / "metrics.json").read_text())["reproduce"]
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-c", f"python -m {command}"], check=True, env=_environment())
    assert files_of(tmp_path / "MODEL") == files_of(tmp_path / "one")


def test_fit_refuses_a_place_that_is_taken_before_any_work(cli: Cli, data: Path) -> None:
    said = cli("fit", data, "-o", data)
    assert said.code == 1
    assert "exists and is no fitted model" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--head", "forest"), "head is 'forest'"),
        (("--set", "depth=3"), "unknown key depth"),
        (("--set", "mlp.epochs=3"), "mlp.epochs=3 has no effect without an MLP"),
        (("--set", "finetune.epochs=3"), "finetune.epochs=3 has no effect without --unfreeze"),
        (("--views", "sideways"), "no views are called 'sideways'"),
        (("--target-error", "0"), "target_error is 0"),
        (("--group-regex", "(ship)"), "matches none of"),
    ],
)
def test_unusable_options_end_with_1(
    cli: Cli, data: Path, arguments: tuple[str, ...], said: str
) -> None:
    outcome = cli("fit", data, *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert said in outcome.err


def test_strict_turns_skipped_files_into_1(cli: Cli, data: Path, tmp_path: Path) -> None:
    (data / "apple" / "broken.png").write_text("no image")
    assert cli("fit", data, "-o", tmp_path / "model", "--folds", 3).code == 0
    strict = cli("fit", data, "-o", tmp_path / "model", "--folds", 3, "--strict", "--json")
    assert strict.code == 1
    assert [entry["path"] for entry in strict.json["skipped"]] == ["apple/broken.png"]


def test_a_killed_fit_leaves_nothing_half_and_the_next_one_ends_the_same(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle
) -> None:
    photos = 240  # several batches
    data = make_photos(tmp_path / "fruit", photos // 3, spread=25)
    out = tmp_path / "place" / "model"
    out.parent.mkdir()
    words = [sys.executable, "-m", "miniclip", "fit", str(data), "-o", str(out), "--folds", "3"]
    environment = _environment() | {"MINICLIP_BUNDLE": str(tiny_bundle.directory)}
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not _stored(home):  # the first batch
        assert process.poll() is None, "it ended and stored nothing"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [path for path in out.parent.iterdir() if path.name[0] != "."]
    assert left in ([], [out])
    assert left == [] or set(files_of(out)) >= {"model.json", "head.npz", "report.html"}
    stored = _stored(home)
    again = cli("fit", data, "-o", out, "--folds", 3, "--json").json
    assert again["features_computed"] == photos - stored
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "fresh"))
    fresh = cli("fit", data, "-o", tmp_path / "unbroken", "--folds", 3, "--json").json
    assert fresh["features_computed"] == photos
    assert files_of(out) == files_of(tmp_path / "unbroken")


def _stored(home: Path) -> int:
    """Count the images whose features a kill would leave."""
    try:
        with closing(sqlite3.connect(f"file:{home / 'cache' / FILE_NAME}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM features").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def _environment() -> dict[str, str]:
    folder = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


# Predict


def test_predict_gives_labels_sets_decisions_and_look_alikes(
    cli: Cli, model: Path, data: Path
) -> None:
    said = cli("predict", model, data, "--json").json
    assert len(said["images"]) == 45
    for image in said["images"]:
        shares = [label["probability"] for label in image["labels"]]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        assert {label["label"] for label in image["labels"]} == set(COLOURS)
        assert set(image["set"]) <= set(COLOURS)
        assert image["decision"] in ("auto", "review", "out-of-scope")
        assert image["nearest"][0]["path"] == Path(image["path"]).relative_to(data).as_posix()
        assert image["nearest"][0]["cosine"] == pytest.approx(1, abs=1e-3)
    right = sum(
        image["labels"][0]["label"] == Path(image["path"]).parent.name for image in said["images"]
    )
    assert right >= 40


def test_a_strange_picture_is_out_of_scope_and_a_broken_one_is_skipped(
    cli: Cli, model: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    halves = Image.new("RGB", (48, 48), "black")
    halves.paste("white", (24, 0, 48, 48))
    halves.save(new / "strange.png")
    (new / "broken.png").write_text("no image")
    said = cli("predict", model, new, "--json")
    assert said.code == 0
    (image,) = said.json["images"]
    assert image["decision"] == "out-of-scope"
    assert "unlike the training images" in image["reason"]
    assert [entry["path"] for entry in said.json["skipped"]] == [str(new / "broken.png")]
    assert cli("predict", model, new, "--strict").code == 1


def test_predictions_go_to_a_table_and_doubtful_images_to_a_folder(
    cli: Cli, model: Path, tmp_path: Path
) -> None:
    new = make_photos(tmp_path / "new", 10, seed=3, spread=70)
    table, review = tmp_path / "out.csv", tmp_path / "review"
    said = cli("predict", model, new, "--csv", table, "--review-dir", review)
    assert said.code == 0
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    assert len(said.out.splitlines()) == 30
    to_check = [row for row in rows if row["decision"] != "auto"]
    assert 0 < len(to_check) < 30
    copies = [path for path in review.rglob("*") if path.is_file()]
    assert len(copies) == len(to_check)
    first = next(row for row in to_check if row["decision"] == "review")
    copy = review / "review" / first["label"] / Path(first["path"]).name
    assert copy.read_bytes() == Path(first["path"]).read_bytes()
    again = cli("predict", model, new, "--review-dir", review)
    assert again.code == 1
    assert "is not empty" in again.err


def test_links_may_stand_for_copies_and_equal_names_get_numbers(
    cli: Cli, model: Path, tmp_path: Path
) -> None:
    strange = Image.new("RGB", (48, 48), "black")
    strange.paste("white", (24, 0, 48, 48))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        strange.save(tmp_path / folder / "same.png")
    places = (tmp_path / "a", tmp_path / "b")
    assert cli("predict", model, *places, "--review-dir", tmp_path / "r", "--link").code == 0
    found = sorted((tmp_path / "r" / "out-of-scope").iterdir())
    assert [path.name for path in found] == ["same-2.png", "same.png"]
    assert {path.resolve() for path in found} == {place / "same.png" for place in places}


def test_predict_names_what_is_missing(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ((tmp_path / "none", tmp_path), "holds no model.json"),
        ((model, tmp_path / "empty"), "no image below"),
        ((model, tmp_path / "nowhere"), "no file or folder"),
    ):
        outcome = cli("predict", *arguments, "--json")
        assert (outcome.code, outcome.out) == (1, "")
        assert said in outcome.err


def test_predict_refuses_another_bundle_and_names_both(
    cli: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    other = build_tiny_bundle(tmp_path / "other")
    edit_manifest(other, name="other", image=other.manifest.image.to_dict() | {"mean": [0, 0, 0]})
    outcome = cli("predict", model, data, "--bundle", other.directory)
    assert outcome.code == 1
    assert "fitted on the bundle 'tiny'" in outcome.err
    assert "this is 'other'" in outcome.err


def test_a_model_with_its_own_bundle_needs_no_other(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("fit", data, "-o", tmp_path / "own", "--folds", 3, "--copy-bundle").code == 0
    monkeypatch.setenv("MINICLIP_BUNDLE", str(tmp_path / "gone"))
    assert cli("predict", tmp_path / "own", data).code == 0


# Evaluate and transfer


def test_evaluate_classifier_measures_new_images(cli: Cli, model: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", 15, seed=8, spread=25)
    page = tmp_path / "page.html"
    said = cli("evaluate", "classifier", model, new, "--html", page, "--json").json
    assert {"accuracy", "macro_f1", "ece", "coverage", "drift"} <= set(said)
    assert said["accuracy"]["value"] > 0.8
    assert page.exists()
    assert "no drift that matters" in cli("evaluate", "classifier", model, new).out


def test_a_recalibrated_model_can_be_kept(cli: Cli, model: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", 15, seed=8, spread=130)
    arguments = ("evaluate", "classifier", model, new, "--recalibrate", 24)
    assert cli(*arguments, "-o", tmp_path / "better").code == 0
    assert cli("predict", tmp_path / "better", new).code == 0
    assert cli("evaluate", "classifier", model, new, "-o", tmp_path / "x").code == 2


def test_transfer_measures_every_pair(cli: Cli, data: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", 12, seed=8, spread=25)
    (new / "sea").rename(new / "Ocean")
    arguments = ("transfer", "--train", data, "--test", data, "--test", new)
    said = cli(*arguments, "--folds", 3, "--map", "ocean=sea", "--json").json
    own, other = said["cells"]
    assert (own["train"], own["test"]) == (str(data), str(data))
    assert (other["test"], other["images"]) == (str(new), 36)
    assert other["classes"] == ["apple", "leaf", "sea"]
    assert cli(*arguments, "--map", "ocean").code == 2
