"""LoRA: a frozen linear layer learns an update of low rank, which is merged in the end.

W + (2 / r) B A with A (r, in) random and B (out, r) zero, so that training starts at W (Hu et al.
2021, arXiv 2106.09685, section 4.1, with their alpha at 2). It knows no towers: which layers
are adapted is said by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from miniclip.errors import TrainingError

_ALPHA = 2.0


class LowRankUpdate(nn.Module):
    """Adds its product to a weight (out, in), which itself learns nothing."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = _ALPHA / rank

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) to the same, updated."""
        return weight + self.scale * self.up @ self.down


def add_lora(module: nn.Module, rank: int, *, seed: int) -> None:
    """Let every linear layer below `module` learn by an update, and freeze all else in it.

    TrainingError when there is none.
    """
    module.requires_grad_(False)
    layers = list(_linear_layers(module))
    if not layers:
        raise TrainingError(
            f"{type(module).__name__} has no linear layers for LoRA; set finetune.lora_rank to 0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", LowRankUpdate(layer.weight, rank))


def merge_lora(module: nn.Module) -> None:
    """Make every update part of its weight; the function stays the same."""
    for layer in list(_linear_layers(module)):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")


def _linear_layers(module: nn.Module) -> Iterator[nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear))
