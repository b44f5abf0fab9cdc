"""`miniclip fit --unfreeze` and the MLP heads, from the command line to the model directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniclip.arrays import IntArray
from miniclip.cli import main
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.bench import Bench
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads import Rows, fit_head
from miniclip.probe.heads.head import Head
from miniclip.probe.heads.linear import LinearHead
from miniclip.probe.model import ClassifierModel
from miniclip.probe.prepare import prepare
from miniclip.testing import FakeEncoder
from miniclip.train.unfreeze import better_head
from miniclip.views import named_views
from tests.probe.photos import make_photos
from tests.train.finetune.conftest import Case

pytestmark = pytest.mark.train

TUNING = ("finetune.epochs=2", "finetune.batch_size=16", "finetune.precision=float32")
QUICK = [word for text in TUNING for word in ("--set", text)]


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "fruit", 20, spread=40)


def test_a_tuned_encoder_travels_with_its_model_and_runs_without_torch(
    case: Case, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, photo = tmp_path / "model", data / "apple" / "apple000.png"
    shutil.copy(photo, photo.with_name("copy.png"))
    said = run(
        capfd, "fit", data, "-o", model, "--bundle", case.bundle.directory, "--unfreeze", 1,
        "--folds", 4, *QUICK,
    )  # fmt: skip
    assert said["head"]["kind"] in ("linear", "kernel")
    assert said["head"]["bundle"] == "tiny-vit-tuned"
    assert said["images"] == 15  # one fold of four stands for all four
    assert said["repeats"]["exact"] == 1
    assert said["naive"] is None  # repeats on both sides: another tuning would have to tell
    assert len(said["curves"]["train_loss"]) == 2
    assert not model.with_name("model.tuning").exists()
    assert "--unfreeze 1" in said["reproduce"]
    assert "--set finetune.epochs=2" in said["reproduce"]
    opened = ClassifierModel.open(model)
    assert opened.find_bundle().directory == model / "bundle"
    held_out = {image["name"] for image in json.loads((model / "images.json").read_text())
                if not image["learnt_from"]}  # fmt: skip
    assert len(held_out) == 15
    assert not held_out & set(opened.reference.names)
    code = (
        "import sys\nfrom miniclip.cli import main\n"
        f"try:\n main(['predict', {str(model)!r}, {str(data)!r}])\n"
        "except SystemExit:\n assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 61


def test_the_better_of_two_heads_is_taken(data: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with VectorCache.open(tmp_path / "cache") as cache:
        prepared = prepare(encoder, read_labelled_splits(data), cache, views=named_views("plain"))
    train, validation = np.arange(60).reshape(-1, 2).T
    labels = prepared.labels
    everything = Rows(prepared.table.features[0], prepared.table.embeddings)
    known = fit_head("logistic", everything.take(train), labels[train], 3)
    tuned = LinearHead.load({}, known.arrays())
    aimless = replace(tuned, weights=np.zeros_like(tuned.weights))

    def better(head: LinearHead, labels: IntArray) -> Head:
        bench = Bench(encoder, replace(prepared, labels=labels), FitSettings())
        return better_head(bench, head, train, validation)

    fitted = better(aimless, labels)
    assert fitted.kind == "kernel"
    assert len(fitted.arrays()["support"]) == 60  # both parts were learnt from in the end
    nonsense = labels.copy()
    nonsense[train] = np.random.default_rng(0).permutation(nonsense[train])
    kept = better(tuned, nonsense)
    assert isinstance(kept, LinearHead)
    np.testing.assert_array_equal(kept.scores(everything), tuned.scores(everything))


def test_given_parts_are_kept_and_a_second_run_ends_the_same(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        make_photos(tmp_path / "split" / part, 10, seed=seed, spread=40)
    said = [
        run(
            capfd,
            "fit",
            tmp_path / "split",
            "-o",
            tmp_path / name,
            "--bundle",
            case.bundle.directory,
            "--unfreeze",
            "all",
            *QUICK,
        )
        for name in ("one", "two")
    ]
    assert said[0]["data"]["parts"] == {"train": 30, "val": 30, "test": 30}
    held_out = [
        image["name"]
        for image in json.loads((tmp_path / "one" / "images.json").read_text())
        if "fold" in image
    ]
    assert {name.split("/")[0] for name in held_out} == {"val"}
    assert len(held_out) == said[0]["images"] > 20  # less those that look like train images
    for name in ("model.json", "head.npz", "images.json", "metrics.json"):
        one, two = ((tmp_path / place / name).read_bytes() for place in ("one", "two"))
        assert one == two


def test_both_presets_are_compared_on_the_same_images(
    case: Case, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = run(
        capfd, "fit", data, "-o", tmp_path / "model", "--bundle", case.bundle.directory,
        "--folds", 3, "--compare-presets", "--set", "mlp.epochs=12",
    )  # fmt: skip
    baseline, robust = said["presets"]["runs"]
    assert (baseline["name"], robust["name"]) == ("baseline", "robust")
    assert baseline["settings"]["dropout"] == 0.3
    assert robust["settings"]["batch_norm"] is True
    for preset in (baseline, robust):
        losses = preset["curves"]["validation_loss"]
        assert len(losses) == 12
        assert preset["rise"] == pytest.approx(losses[-1] - min(losses))
    ratio = said["presets"]["ratio_of_rises"]
    assert ratio is None or ratio == pytest.approx(baseline["rise"] / robust["rise"])
    assert said["presets"]["comparison"]["verdict"]


def test_an_mlp_head_stops_early_by_itself_and_not_in_a_preset(
    case: Case, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ("fit", data, "--bundle", case.bundle.directory, "--folds", 3, "--head", "mlp")
    own = run(capfd, *common, "-o", tmp_path / "own", "--set", "epochs=30")
    preset = run(
        capfd, *common, "-o", tmp_path / "preset", "--preset", "robust", "--set", "epochs=5"
    )
    assert own["head"]["kind"] == preset["head"]["kind"] == "mlp"
    assert own["head"]["settings"]["patience"] > 0
    assert preset["head"]["settings"]["patience"] == 0
    assert preset["head"]["settings"]["epochs"] == 5
    table = np.load(tmp_path / "own" / "head.npz", allow_pickle=False)
    assert {"w1", "w2"} <= set(table.files)
    table.close()
