"""Which image and which text belong together in a batch. It knows ids only, no vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from miniclip.errors import TrainingError


def positive_pairs(
    image_groups: Tensor, text_groups: Tensor, text_ids: Tensor | None = None
) -> Tensor:
    """Mark the pairs of a batch that must not be pushed apart.

    An image and a text are positive when their group ids are equal, and also when the image has
    another caption in the batch that reads exactly the same (equal `text_ids`): two photos of
    which both are captioned "a dog runs" are both right for it.

    image_groups: (B,) ints, one id per picture; the same picture twice has the same id twice.
    text_groups:  (M,) ints, the id of the picture that each text describes. Across processes the
                  ids must be global (for example the row in the data set), never the row in the
                  batch.
    text_ids:     (M,) ints or None; equal for texts that read the same.
    Returns (B, M) bool. With one row per image: `positive_pairs(arange(B), image_of_text)`.
    Raises TrainingError when the shapes do not fit.
    """
    if image_groups.ndim != 1 or text_groups.ndim != 1:
        raise TrainingError(
            f"group ids must be flat lists, got shapes {tuple(image_groups.shape)} for images and "
            f"{tuple(text_groups.shape)} for texts; pass one id per image and one per text"
        )
    own = image_groups[:, None] == text_groups[None, :]
    if text_ids is None:
        return own
    if text_ids.shape != text_groups.shape:
        raise TrainingError(
            f"{text_ids.numel()} text ids for {text_groups.numel()} texts; pass one id per text"
        )
    # Count, per image, its captions of each wording; then every text looks its wording up.
    wordings, wording_of_text = torch.unique(text_ids, return_inverse=True)
    counts = own.new_zeros((own.shape[0], wordings.shape[0]), dtype=torch.int32)
    counts.index_add_(1, wording_of_text, own.int())
    return counts[:, wording_of_text] > 0
