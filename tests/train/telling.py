"""Processes of a run that tell what they save, compute and map; see `dying` for those that die."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miniclip.arrays import FloatArray
from miniclip.train import checkpoints
from miniclip.train.data.batches import Batch
from miniclip.train.data.feature_cache import Half
from miniclip.train.data.trunk_runner import TrunkRunner
from miniclip.train.module import Contrastive
from miniclip.train.processes import World
from miniclip.train.recipe import Recipe
from miniclip.train.run import TrainingResult, _train_here

_train, _step = _train_here, Contrastive.training_step  # before a test puts others in their place
_save, _run = checkpoints._save, TrunkRunner.__call__


def telling(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Train; process N tells in N.json, beside the run.

    saved: name and step of each checkpoint; computed: rows of features; mapped: the feature files
    that are mapped while a step is taken, as (device, inode), if other processes may share them.
    """
    told: dict[str, Any] = {"saved": [], "computed": 0, "mapped": []}

    def save(path: Path, content: Mapping[str, Any]) -> None:
        told["saved"].append((path.name, content.get("done", content.get("step"))))
        _save(path, content)

    def run(self: TrunkRunner, pixels: FloatArray) -> Half:
        told["computed"] += len(pixels)
        return _run(self, pixels)

    def step(self: Contrastive, batch: Batch, index: int) -> None:
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        files = {(m[3], m[4]) for m in maps if "/view-" in m[-1] and m[1] == "r--s"}
        told["mapped"] = sorted(files)
        _step(self, batch, index)

    checkpoints._save = save
    TrunkRunner.__call__ = run  # type: ignore[method-assign]
    Contrastive.training_step = step  # type: ignore[method-assign, assignment]
    result = _train(recipe, output, world)
    (output.parent / f"{os.environ['RANK']}.json").write_text(json.dumps(told))
    return result
