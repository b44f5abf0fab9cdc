"""Processes of a run that are killed at chosen steps; a module, so that new processes find it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from miniclip.cli import main
from miniclip.train.data.batches import Batch
from miniclip.train.module import Contrastive
from miniclip.train.processes import World
from miniclip.train.recipe import Recipe
from miniclip.train.run import TrainingResult, _train_here

_train, _step = _train_here, Contrastive.training_step  # before a test puts others in their place


def killed_twice(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Train, but the second process dies in its second step, and after a restart in the eighth."""
    _die({0: 1, 1: 7}, output / "began.txt")
    return _train(recipe, output, world)


def always_killed(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Die at once in the second process."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return _train(recipe, output, world)


def killed_once_as_a_command(arguments: tuple[str, ...], said: Path) -> int:
    """Do what torchrun has its processes do, and die in the second one's third step.

    said: a folder; what process N prints goes to N.txt, for processes may have any stdout.
    """
    _die({0: 2}, Path(os.devnull))
    path = said / f"{os.environ['RANK']}.txt"
    with path.open("w") as stream, contextlib.redirect_stdout(stream):
        try:
            main(list(arguments))
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def _die(step_of: dict[int, int], began: Path) -> None:
    """Be killed in the second process. step_of: attempt -> step. began: lists first steps."""
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

    def deadly(self: Contrastive, batch: Batch, _index: int) -> None:
        if self.metrics == {} and self.global_rank == 0:
            with began.open("a") as stream:
                stream.write(f"{batch.step}\n")
        if self.global_rank == 1 and batch.step == step_of.get(attempt):
            os.kill(os.getpid(), signal.SIGKILL)
        _step(self, batch, _index)

    Contrastive.training_step = deadly  # type: ignore[method-assign]
