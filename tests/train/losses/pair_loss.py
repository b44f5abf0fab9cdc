"""A loss that holds the temperature and the bias which a `TwoTower` would hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from miniclip.train.losses import infonce, sigmoid

NAMES = ("infonce", "sigmoid")


class PairLoss(nn.Module):
    """`infonce` or `sigmoid` with parameters of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.bias = nn.Parameter(torch.tensor(-3.0)) if name == "sigmoid" else None

    def forward(self, image: Tensor, text: Tensor, positives: Tensor) -> Tensor:
        if self.bias is None:
            return infonce(image, text, positives, self.log_scale)
        return sigmoid(image, text, positives, self.log_scale, self.bias)
