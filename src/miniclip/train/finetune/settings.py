"""What a fine-tuning can be told, with defaults and ranges. Towers check what blocks they have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from miniclip.errors import ConfigError
from miniclip.settings import overridden

Precision = Literal["auto", "float32", "bf16"]


def _require(holds: bool, key: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"finetune.{key} is {value!r}; give {wanted}")


@dataclass(frozen=True)
class FinetuneSettings:
    """Every choice of a fine-tuning.

    unfreeze: "last:N" blocks and what follows them, "all", or "none" (with LoRA). learners: of
    joined towers, only the first so many learn; 0 for all. lora_rank: rank of the update of each
    linear layer of a transformer's blocks, whose own weights keep still; 0 for none.
    rate: of the topmost layer of a tower; each layer below learns `layer_decay` times as fast.
    head_rate: of the linear head, on features of deviation 1. warm_up: share of the steps.
    average: decay of the weight average that is judged and kept, 0 for none. clip: largest norm of
    the gradient, 0 for none. dropout: of the head's inputs.
    mixup: blends of two images by shares from Beta(mixup, mixup), 0 for none (Zhang et al. 2018).
    per_group: of images that repeat each other, or belong together otherwise, an epoch visits at
    most so many, drawn anew each time, 0 for all: with many copies, most visits teach nothing new.
    crop, flip, upside_down, jitter: of the random views (see `data.augment`). views: how many of
    them are made once and kept as rows of the frozen part, 0 for a fresh view at each visit.
    patience: epochs without a lower validation cost before the training ends, 0 for never: most of
    what a cosine gains comes at its end.
    alphas: shares of the tuned weights in the mean with the frozen ones, of which validation
    chooses (WiSE-FT). precision: "auto" is bf16 where the processor multiplies it.
    """

    unfreeze: str = "all"
    learners: int = 0
    lora_rank: int = 0
    epochs: int = 30
    batch_size: int = 32
    rate: float = 2e-4
    head_rate: float = 1e-4
    layer_decay: float = 0.93
    weight_decay: float = 0.02
    warm_up: float = 0.05
    clip: float = 1.0
    average: float = 0.99
    dropout: float = 0.2
    label_smoothing: float = 0.1
    mixup: float = 0.0
    per_group: int = 0
    crop: tuple[float, float] = (0.35, 1.0)
    flip: bool = True
    upside_down: bool = False
    jitter: float = 0.2
    views: int = 0
    patience: int = 0
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("learners", "lora_rank", "per_group", "views", "patience"):
            value = getattr(self, name)
            _require(value >= 0, name, value, "a whole number from 0 up")
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            _require(value >= 1, name, value, "a whole number from 1 up")
        for name in ("rate", "head_rate", "weight_decay", "clip", "mixup"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "a number from 0 up")
        for name in ("average", "dropout", "label_smoothing", "warm_up", "jitter"):
            value = getattr(self, name)
            _require(0 <= value < 1, name, value, "a share from 0 to below 1")
        _require(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "above 0, at most 1")
        low, high = self.crop
        _require(0 < low <= high <= 1, "crop", self.crop, "two rising shares of the area")
        shares = bool(self.alphas) and all(0 <= alpha <= 1 for alpha in self.alphas)
        _require(shares, "alphas", self.alphas, "shares of the tuned weights, from 0 to 1")
        if self.views and self.upside_down:
            raise ConfigError(
                "finetune.views are made once and never upside down; set one of both to 0 or false"
            )
        if self.unfreeze == "none" and not self.lora_rank:
            raise ConfigError(
                "finetune.unfreeze is 'none', so nothing of the tower would learn; "
                "give 'last:N' or 'all', or a finetune.lora_rank"
            )


def finetune_settings(overrides: Sequence[str] = ()) -> FinetuneSettings:
    """Return the defaults with overrides such as "epochs=10" laid over them.

    ConfigError names an unknown setting or an unusable value.
    """
    return overridden(FinetuneSettings(), overrides, "finetune.")
