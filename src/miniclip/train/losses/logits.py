"""From unit rows to logits: the bounded, learnable temperature and the matrix of scaled cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from miniclip.errors import ConfigError, TrainingError

MAX_LOGIT_SCALE = 100.0
_MAX_LOG_SCALE = math.log(MAX_LOGIT_SCALE)


def bounded_scale(log_scale: Tensor) -> Tensor:
    """exp(log_scale), at most 100 (Radford et al. 2021, section 2.5). Scalar in, scalar out.

    Above the bound the gradient is zero; `LogitScale` therefore keeps its parameter at or below it.
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


class LogitScale(nn.Module):
    """The learnable temperature, held as its natural logarithm and kept at most log 100."""

    def __init__(self, initial: float, *, learn: bool = True) -> None:
        super().__init__()
        if not 0 < initial <= MAX_LOGIT_SCALE:
            raise ConfigError(
                f"initial logit scale {initial} is outside (0, {MAX_LOGIT_SCALE:g}]; "
                "CLIP starts at 14.3, SigLIP at 10"
            )
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)), requires_grad=learn)

    @property
    def value(self) -> float:
        """The factor from cosine to logit, in (0, 100]."""
        return float(bounded_scale(self.log_scale.detach()))

    def forward(self) -> Tensor:
        """Return the scalar log scale, cut back to the bound if an optimiser step overshot it."""
        with torch.no_grad():
            self.log_scale.clamp_(max=_MAX_LOG_SCALE)
        return self.log_scale
