"""Distillation from a teacher's similarity matrix: soft targets beside the hard pairs.

The student's softmax over the batch follows the teacher's in both directions (the affinity
mimicking of TinyCLIP, Wu et al. 2023, arXiv 2309.12314). Mix it with a contrastive loss by a
weight: `(1 - w) * infonce(...) + w * distillation(...)` has the gradients of cross-entropy with
mixed targets.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miniclip.errors import TrainingError
from miniclip.train.losses.logits import pair_logits


def distillation(image: Tensor, text: Tensor, teacher_logits: Tensor, log_scale: Tensor) -> Tensor:
    """Mean over both directions of KL(teacher || student); a scalar, 0 when they agree.

    image: (B, D) unit rows; text: (M, D) unit rows; log_scale: the student's, scalar.
    teacher_logits: (B, M) float, the teacher's cosines times the teacher's own logit scale; they
    get no gradient.
    """
    logits = pair_logits(image, text, log_scale)
    if teacher_logits.shape != logits.shape:
        raise TrainingError(
            f"teacher logits are {tuple(teacher_logits.shape)}, the batch is "
            f"{tuple(logits.shape)}; compute them for the same images and texts"
        )
    teacher = teacher_logits.detach().to(logits.dtype)
    return 0.5 * (_divergence(logits, teacher) + _divergence(logits.T, teacher.T))


def _divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(
        logits.log_softmax(dim=1),
        teacher.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )
