"""The contrastive loss of a recipe, applied to a model's own scale and bias."""

from __future__ import annotations

from torch import Tensor

from miniclip.train.losses import infonce, sigmoid
from miniclip.train.model import TwoTower
from miniclip.train.recipe import Loss


def contrast(
    model: TwoTower, image: Tensor, text: Tensor, positives: Tensor, settings: Loss
) -> Tensor:
    """image: (B, D), text: (M, D) unit rows; positives: (B, M) bool. Returns a scalar."""
    if settings.name == "sigmoid":
        return sigmoid(image, text, positives, model.log_scale, model.bias)
    smoothing = settings.label_smoothing
    return infonce(image, text, positives, model.log_scale, label_smoothing=smoothing)
