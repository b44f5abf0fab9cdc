"""What image and text towers share: which of their parts learn, and which keep still.

The towers themselves are in `image`, `joined` and `text`.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from miniclip.errors import TrainingError


class Trainable(NamedTuple):
    """How much of a tower learns: nothing, its last blocks and what follows them, or everything."""

    extent: Literal["none", "last", "all"]
    blocks: int = 0

    @classmethod
    def parse(cls, setting: str, *, available: int) -> Self:
        """Read "none", "last:N" or "all"; `available` is the number of blocks.

        TrainingError for anything else, and for more blocks than there are.
        """
        if setting in ("none", "all"):
            return cls("none" if setting == "none" else "all")
        matched = re.fullmatch(r"last:(\d+)", setting)
        if not matched:
            raise TrainingError(f"trainable is {setting!r}; write 'none', 'last:N' or 'all'")
        blocks = int(matched[1])
        if blocks > available:
            raise TrainingError(
                f"trainable is {setting!r}, but the tower has {available} blocks; "
                f"write at most 'last:{available}', or 'all'"
            )
        return cls("last", blocks)


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the list of layers or stages: the outermost ModuleList with the most parameters.

    Returns its dotted name and itself. TrainingError when the model has none.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    if not lists:
        raise TrainingError(
            f"{type(model).__name__} has no list of blocks; set trainable to 'none' or 'all'"
        )
    return max(
        lists, key=lambda entry: _size(entry[1])
    )  # max keeps the first, outermost, of equals


def set_trainable(model: nn.Module, trainable: Trainable) -> None:
    """Let the chosen part of a Hugging Face model learn and freeze the rest.

    With "last", what is registered after the blocks (a final norm, a pooler) learns too.
    """
    model.requires_grad_(trainable.extent == "all")
    if trainable.extent != "last":
        return
    blocks_name, blocks = find_blocks(model)
    first_live = len(blocks) - trainable.blocks
    passed_blocks = False
    for name, parameter in model.named_parameters():
        if name.startswith(f"{blocks_name}."):
            passed_blocks = True
            place = int(name.removeprefix(f"{blocks_name}.").partition(".")[0])
            parameter.requires_grad_(place >= first_live)
        else:
            parameter.requires_grad_(passed_blocks)


def keep_still(tower: nn.Module) -> None:
    """Put back into eval mode what must not change by itself in training mode.

    Those are frozen modules, whose dropout would only blur what is fixed, and all batch
    normalisation, whose statistics over a small batch of a new domain are worse than the
    pretrained ones.
    """
    for module in tower.modules():
        parameters = list(module.parameters())
        frozen = parameters and not any(parameter.requires_grad for parameter in parameters)
        if frozen or isinstance(module, _BatchNorm):
            for part in module.modules():
                part.training = False  # not eval(), which towers route through this function


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
