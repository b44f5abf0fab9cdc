"""Symmetric InfoNCE with any number of positives per row.

With one positive per row this is CLIP's loss (Radford et al. 2021, figure 3). With several it is
SINCERE (Feeney & Hughes 2023, arXiv 2309.14277): every positive p of anchor i has a term of its
own, in which the other positives are neither numerator nor denominator,

    loss_i = - mean_p log( exp(s_ip) / (exp(s_ip) + sum over negatives n of exp(s_in)) ).

SupCon (Khosla et al. 2020) keeps the other positives in the denominator, so that captions of one
image compete; the log of a summed probability (MIL-NCE, Miech et al. 2020) lets one good caption
excuse the rest. Here each caption is pulled and none is pushed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miniclip.train.losses.logits import check_positives, pair_logits


def infonce(
    image: Tensor,
    text: Tensor,
    positives: Tensor,
    log_scale: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean of the image-to-text and the text-to-image loss; a scalar, ln B for B unrelated pairs.

    image: (B, D) unit rows; text: (M, D) unit rows; positives: (B, M) bool; log_scale: scalar.
    label_smoothing: in [0, 1), the share of a positive's probability that is spread evenly over
    the positive and its negatives (Szegedy et al. 2016, section 7).
    A row without a positive serves as a negative only; a batch without any has loss 0.
    """
    logits = pair_logits(image, text, log_scale)
    check_positives(logits, positives)
    return 0.5 * (
        _one_way(logits, positives, label_smoothing)
        + _one_way(logits.T, positives.T, label_smoothing)
    )


def _one_way(logits: Tensor, positives: Tensor, label_smoothing: float) -> Tensor:
    """Mean over anchors (rows) of the mean over their positives."""
    negatives = logits.masked_fill(positives, -torch.inf).logsumexp(dim=1, keepdim=True)
    log_probability = F.logsigmoid(logits - negatives)  # of each entry against the negatives
    score = log_probability
    if label_smoothing:
        # log-probabilities of all candidates of the term of p: p itself and every negative
        n_negatives = (~positives).sum(dim=1, keepdim=True)
        log_normaliser = logits - log_probability
        of_negatives = logits.masked_fill(positives, 0).sum(dim=1, keepdim=True)
        of_all = log_probability + of_negatives - n_negatives * log_normaliser
        spread = of_all / (n_negatives + 1)
        score = (1 - label_smoothing) * log_probability + label_smoothing * spread
    n_positives = positives.sum(dim=1)
    per_row = -score.masked_fill(~positives, 0).sum(dim=1) / n_positives.clamp(min=1)
    return per_row.sum() / (n_positives > 0).sum().clamp(min=1)
