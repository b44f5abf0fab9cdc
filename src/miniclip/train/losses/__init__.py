"""Contrastive losses, one per file, and the mask of positive pairs that they share."""

from miniclip.train.losses.infonce import infonce
from miniclip.train.losses.logits import MAX_LOGIT_SCALE, bounded_scale
from miniclip.train.losses.positives import positive_pairs
from miniclip.train.losses.sigmoid import sigmoid

__all__ = [
    "MAX_LOGIT_SCALE",
    "bounded_scale",
    "infonce",
    "positive_pairs",
    "sigmoid",
]
