"""The image half of a SigLIP 2 that takes pictures of any shape, as a function of one canvas.

The canvas is that of `miniclip.patches`. The original resizes its position embeddings picture by
picture, which no graph can hold; here they are a product with triangle weights, which is what its
`F.interpolate(mode="bilinear", antialias=True)` computes. (But for one column of several rows, as
of a strip a hundred times as high as wide, where torch 2.13 repeats the first row.)
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class NaflexHalf(nn.Module):
    """A canvas (B, 3, S + patch, S) to embedding and features, which are the same."""

    def __init__(self, model: Any, *, side: int, patch: int) -> None:
        """Take the image tower of a `Siglip2Model`; the model stays as it is."""
        super().__init__()
        self.side = side
        self.patch = patch
        self.tower = copy.deepcopy(model.vision_model)
        self.tower.embeddings = _Embeddings(self.tower.embeddings)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S + patch, S) to embeddings (B, D), before unit length, and the same again."""
        across, patch = self.side // self.patch, self.patch
        cells = pixels[:, :, : self.side].reshape(-1, 3, across, patch, across, patch)
        patches = cells.permute(0, 2, 4, 3, 5, 1).reshape(-1, across * across, 3 * patch * patch)
        shapes = pixels[:, 0, self.side, :2]
        places = torch.arange(across * across)
        mask = (places < shapes.prod(dim=1, keepdim=True)).long()
        output = self.tower(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)
        embedding: Tensor = output.pooler_output
        return embedding, embedding


class _Embeddings(nn.Module):
    """Patches and their places in the picture to the first hidden states."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.patch_embedding = original.patch_embedding
        self.size = int(original.position_embedding_size)
        self.positions = nn.Parameter(original.position_embedding.weight.detach().clone())

    def forward(self, pixel_values: Tensor, spatial_shapes: Tensor) -> Tensor:
        """(B, N, 3 * patch * patch) and rows and columns (B, 2), as floats, to (B, N, width)."""
        rows, columns = spatial_shapes[:, :1], spatial_shapes[:, 1:]
        places = torch.arange(pixel_values.shape[1])
        row = torch.div(places, columns, rounding_mode="floor")
        vertical = self._weights(row, rows)
        horizontal = self._weights(places - row * columns, columns)
        both = (vertical.unsqueeze(-1) * horizontal.unsqueeze(-2)).flatten(2)
        states: Tensor = self.patch_embedding(pixel_values) + both @ self.positions
        return states

    def _weights(self, place: Tensor, count: Tensor) -> Tensor:
        """Weigh the `size` stored positions for place (B, N) of count (B, 1); (B, N, size).

        Antialiased bilinear resampling from `size` to `count`: a triangle about
        (place + 0.5) * size / count whose half width is at least 1.
        """
        scale = self.size / count
        centre = ((place + 0.5) * scale).unsqueeze(-1)
        width = scale.clamp(min=1.0).unsqueeze(-1)
        stored = torch.arange(self.size) + 0.5
        weights = (1 - (stored - centre).abs() / width).clamp(min=0.0)
        return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)
