"""An exponential average of the weights along a run. It neither trains nor touches files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from miniclip.errors import ConfigError, TrainingError


class WeightAverage:
    """Exponential moving average of the trainable weights (Polyak & Juditsky 1992).

    After update n the decay is min(decay, (1 + n) / (10 + n)), so that the first steps, far from
    the end, are soon forgotten (the schedule of TensorFlow's ExponentialMovingAverage). Frozen
    weights and buffers are not averaged; weights that thaw during the run join when they do.
    Averages are float32 at least, whatever the precision of the weights.
    """

    def __init__(self, module: nn.Module, *, decay: float = 0.999, warm_up: bool = True) -> None:
        """decay: in [0, 1), what survives a step; about 1 / (1 - decay) steps are remembered."""
        if not 0 <= decay < 1:
            raise ConfigError(f"decay {decay} is outside [0, 1); 0.999 remembers about 1,000 steps")
        self.decay = decay
        self.warm_up = warm_up
        self.updates = 0
        self._module = module
        self._averages: dict[str, Tensor] = {}
        self._join()

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the weights; call it after each optimiser step."""
        self.updates += 1
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        self._join()
        for name, weight in self._trainable():
            average = self._averages[name]
            average.lerp_(weight.to(average.dtype), 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within, the module carries the averages; afterwards its own weights, bit for bit."""
        own: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                for name, weight in self._module.named_parameters():
                    if name in self._averages:
                        own[name] = weight.clone()
                        weight.copy_(self._averages[name])
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._module.named_parameters():
                    if name in own:
                        weight.copy_(own[name])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and ints only: loads with torch.load(weights_only=True)."""
        averages = {name: average.clone() for name, average in self._averages.items()}
        return {"updates": self.updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left off. Raises TrainingError for another model's state."""
        shapes = {name: weight.shape for name, weight in self._module.named_parameters()}
        strangers = sorted(
            name for name, rows in state["averages"].items() if shapes.get(name) != rows.shape
        )
        missing = sorted({name for name, _ in self._trainable()} - state["averages"].keys())
        if strangers or missing:
            raise TrainingError(
                f"the saved weight average is of another model: first misfit "
                f"{(strangers + missing)[0]!r}; resume with the recipe that wrote it"
            )
        self.updates = int(state["updates"])
        weights = dict(self._module.named_parameters())
        self._averages = {
            name: rows.to(device=weights[name].device, copy=True)
            for name, rows in state["averages"].items()
        }

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, weight in self._module.named_parameters():
            if weight.requires_grad:
                yield name, weight

    def _join(self) -> None:
        """Start an average for every trainable weight without one; follow a change of device."""
        for name, weight in self._trainable():
            average = self._averages.get(name)
            if average is None:
                precision = torch.promote_types(weight.dtype, torch.float32)
                self._averages[name] = weight.detach().to(precision, copy=True)
            elif average.device != weight.device:
                self._averages[name] = average.to(weight.device)
