"""The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv 2303.15343, equation 1).

Every pair of the batch is a yes-or-no question of its own, so several captions per image need no
special case: each is one more "yes".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miniclip.train.losses.logits import check_positives, pair_logits


def sigmoid(
    image: Tensor, text: Tensor, positives: Tensor, log_scale: Tensor, bias: Tensor
) -> Tensor:
    """Ask of every pair whether it belongs together; a scalar.

    -1/M sum over i, j of log sigmoid(z_ij (scale * cosine_ij + bias)), z_ij = 1 for a positive pair
    and -1 for any other. The sign of the bias is that of the paper's algorithm 1. M texts make M
    matched pairs, the paper's |B|, so that the loss of a text does not depend on how many captions
    its image has.

    image: (B, D) unit rows; text: (M, D) unit rows; positives: (B, M) bool;
    log_scale, bias: scalars.
    """
    logits = pair_logits(image, text, log_scale)
    check_positives(logits, positives)
    logits = logits + bias.to(logits.dtype)
    answers = F.logsigmoid(torch.where(positives, logits, -logits))
    return -answers.sum() / text.shape[0]
