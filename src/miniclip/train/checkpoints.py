"""What a run saves: `last.ckpt` to go on from, `best.ckpt` to use. Written whole or not at all.

Loaded with weights_only: tensors and plain values, nothing that can run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from miniclip.atomic import replacing
from miniclip.errors import TrainingError
from miniclip.train.module import Contrastive

FOLDER = "checkpoints"
LAST, BEST = "last.ckpt", "best.ckpt"


def save_last(run: Path, module: Contrastive) -> None:
    """Save all that the next step depends on."""
    _save(
        run / FOLDER / LAST,
        {
            "done": module.done,
            "model": module.model.state_dict(),
            "optimiser": module.optimiser.state_dict(),
            "average": module.average.state_dict() if module.average else None,
        },
    )


def load_last(run: Path, module: Contrastive) -> None:
    """Put a module of the same recipe where `save_last` found it. TrainingError if it misfits."""
    path = run / FOLDER / LAST
    state = _load(path)
    try:
        module.model.load_state_dict(state["model"])
        module.optimiser.load_state_dict(state["optimiser"])
        module.done = int(state["done"])
        if module.average:
            module.average.load_state_dict(state["average"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is of another model ({error}); resume with the recipe that wrote it"
        ) from error


def has_last(run: Path) -> bool:
    """Whether there is something to resume from."""
    return (run / FOLDER / LAST).exists()


def save_best(run: Path, weights: Mapping[str, Tensor], *, step: int, score: float) -> None:
    """Save the weights of the best evaluation, averaged ones if the run averages."""
    _save(run / FOLDER / BEST, {"step": step, "score": score, "model": dict(weights)})


def load_best(run: Path) -> dict[str, Any]:
    """Return "step", "score" and "model". TrainingError when there is no readable one."""
    return _load(run / FOLDER / BEST)


def _save(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        torch.save(dict(content), stream)


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}; give the directory of a run that has got that far"
        ) from error
    except Exception as error:  # unpickling and zip reading raise a dozen types
        raise TrainingError(
            f"the checkpoint {path} cannot be read ({error}); start the run again"
        ) from error
    return content
