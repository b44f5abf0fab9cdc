"""Encoding many texts of different length without paying for the padding; and token dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Encode = Callable[[Tensor, Tensor], Tensor]  # ids, mask (B, T) to rows (B, D)


def lengths(attention_mask: Tensor) -> Tensor:
    """Return the place after the last token of each text; (B, T) to (B,). Gaps are no end."""
    places = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    return (attention_mask * places).amax(dim=1)


def trimmed(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut off the columns that are padding in every row; (B, T) to (B, T') each."""
    longest = int(lengths(attention_mask).max())
    return input_ids[:, :longest], attention_mask[:, :longest]


def encode_by_length(
    encode: Encode, input_ids: Tensor, attention_mask: Tensor, chunk: int
) -> Tensor:
    """Encode texts in chunks of like length, each only as long as its longest text.

    input_ids, attention_mask: (B, T), padded on the right; chunk: texts, 0 for all together.
    Returns (B, D) in the given order; what is computed for a text does not depend on the chunk,
    but for rounding and dropout.
    """
    if not chunk or len(input_ids) <= chunk:
        return encode(*trimmed(input_ids, attention_mask))
    order = lengths(attention_mask).argsort(descending=True, stable=True)
    rows = [
        encode(*trimmed(input_ids[part], attention_mask[part]))
        for part in torch.split(order, chunk)
    ]
    return torch.cat(rows)[order.argsort()]


def drop_tokens(attention_mask: Tensor, share: float) -> Tensor:
    """Hide a random share of the tokens, never the first of a text; (B, T) to (B, T)."""
    if not share:
        return attention_mask
    kept = torch.rand(attention_mask.shape, device=attention_mask.device) >= share
    kept[:, 0] = True
    return attention_mask * kept
