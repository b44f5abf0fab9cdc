"""Processes of a run that are killed at chosen steps; a module, so that new processes find it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from miniclip.train.data.batches import Batch
from miniclip.train.module import Contrastive
from miniclip.train.processes import World
from miniclip.train.recipe import Recipe
from miniclip.train.run import TrainingResult, _train_here

_train, _step = _train_here, Contrastive.training_step  # before a test puts others in their place


def killed_twice(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Train, but the second process dies in its second step, and after a restart in the eighth."""
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

    def deadly(self: Contrastive, batch: Batch, _index: int) -> None:
        if self.metrics == {} and self.global_rank == 0:
            with (output / "began.txt").open("a") as stream:
                stream.write(f"{batch.step}\n")
        if self.global_rank == 1 and batch.step == {0: 1, 1: 7}.get(attempt):
            os.kill(os.getpid(), signal.SIGKILL)
        _step(self, batch, _index)

    Contrastive.training_step = deadly  # type: ignore[method-assign]
    return _train(recipe, output, world)


def always_killed(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Die at once in the second process."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return _train(recipe, output, world)
