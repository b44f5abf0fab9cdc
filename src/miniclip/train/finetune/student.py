"""What learns: the live half of a tower and a linear head, which starts as a fitted one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from miniclip.arrays import FloatArray
from miniclip.probe.heads.linear import LinearHead
from miniclip.train.finetune.halves import LiveHalf, layers_of
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.towers.image import ImageTower


class Student(nn.Module):
    """Rows of the frozen half to logits.

    tower: whole, so that its weights have their own names; live: its live half, which may compute
    the same weights in another way. The head sees (features - mean) / scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, tower: ImageTower, live: LiveHalf, head: LinearHead, *, dropout: float
    ) -> None:
        super().__init__()
        self.tower = tower
        self._live = (live,)  # in a tuple, for its parameters are registered in the tower
        self.register_buffer("mean", torch.from_numpy(head.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scale.copy()))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(*head.weights.shape)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(head.weights.T))
            self.head.bias.copy_(torch.from_numpy(head.bias))

    def features(self, rows: Tensor) -> Tensor:
        """Rows (B, M) to features (B, F) float32."""
        features: Tensor = self._live[0](rows)
        return features.float()

    def logits(self, features: Tensor) -> Tensor:
        """Features (B, F) to logits (B, C)."""
        logits: Tensor = self.head(self.drop((features - self.mean) / self.scale))
        return logits

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (B, M) to logits (B, C)."""
        return self.logits(self.features(rows))

    def plain_head(self) -> LinearHead:
        """Return the head, free of torch."""
        return LinearHead(
            weights=_plain(self.head.weight.T),
            bias=_plain(self.head.bias),
            mean=_plain(self.mean),
            scale=_plain(self.scale),
        )

    def parameter_groups(self, settings: FinetuneSettings) -> list[dict[str, Any]]:
        """Group what learns by its rate, which falls from the top layer down; AdamW's own form.

        Vectors, that is biases and norms, are not decayed.
        """
        layers = [(settings.head_rate, list(self.head.parameters()))]
        for depth, layer in enumerate(layers_of(self.tower)):
            layers.append((settings.rate * settings.layer_decay**depth, layer))
        groups = []
        for rate, layer in layers:
            learning = [parameter for parameter in layer if parameter.requires_grad]
            matrices = [parameter for parameter in learning if parameter.ndim > 1]
            vectors = [parameter for parameter in learning if parameter.ndim == 1]
            for members, decay in ((matrices, settings.weight_decay), (vectors, 0.0)):
                if members:
                    groups.append({"params": members, "lr": rate, "weight_decay": decay})
        return groups


def _plain(tensor: Tensor) -> FloatArray:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")
