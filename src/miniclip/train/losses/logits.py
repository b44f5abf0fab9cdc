"""From unit rows to logits: the bounded temperature and the matrix of scaled cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from miniclip.errors import TrainingError

MAX_LOGIT_SCALE = 100.0
_MAX_LOG_SCALE = math.log(MAX_LOGIT_SCALE)


def bounded_scale(log_scale: Tensor) -> Tensor:
    """exp(log_scale), at most 100 (Radford et al. 2021, section 2.5). Scalar in, scalar out.

    Above the bound the gradient is zero, so `TwoTower.clamp_scale` stops the parameter there.
    """
    return log_scale.clamp(max=_MAX_LOG_SCALE).exp()


def pair_logits(image: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
    """Scaled cosines of every image with every text.

    image: (B, D) unit rows; text: (M, D) unit rows; log_scale: scalar, natural logarithm.
    Returns (B, M), float32 even under autocast (float64 for float64 rows): at scale 100 the
    rounding of bfloat16 is larger than the differences that the loss has to see.
    """
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1]:
        raise TrainingError(
            f"image rows {tuple(image.shape)} and text rows {tuple(text.shape)} do not share an "
            "embedding size; give both projection heads the same output width"
        )
    dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        return bounded_scale(log_scale.to(dtype)) * (image.to(dtype) @ text.to(dtype).T)


def check_positives(logits: Tensor, positives: Tensor) -> None:
    """Raise TrainingError unless `positives` is a (B, M) bool mask for these logits."""
    if positives.shape != logits.shape or positives.dtype != torch.bool:
        raise TrainingError(
            f"positives are {positives.dtype} {tuple(positives.shape)}, the batch needs torch.bool "
            f"{tuple(logits.shape)}; build them with positive_pairs()"
        )
