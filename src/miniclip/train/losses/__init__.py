"""Contrastive losses, one per file, and the mask of positive pairs that they share."""

from miniclip.train.losses.distillation import distillation
from miniclip.train.losses.infonce import InfoNCE, infonce
from miniclip.train.losses.logits import MAX_LOGIT_SCALE, bounded_scale, pair_logits
from miniclip.train.losses.positives import positive_pairs
from miniclip.train.losses.sigmoid import Sigmoid, sigmoid

__all__ = [
    "MAX_LOGIT_SCALE",
    "InfoNCE",
    "Sigmoid",
    "bounded_scale",
    "distillation",
    "infonce",
    "pair_logits",
    "positive_pairs",
    "sigmoid",
]
