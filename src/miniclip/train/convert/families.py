"""The families of two-tower checkpoints: which module gives features, which the embedding.

Each half is one function of pixels or tokens, as a bundle's graph must be; the halves are made of
the original's own modules. What its files must say is read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

TextPooling = Literal["pooler", "first"]


@dataclass(frozen=True)
class Family:
    """What two-tower models of one `model_type` have in common.

    model_class: its name in transformers. pads: as `TextSpec.pad`. causal: whether a token of a
    text sees those before it alone, so that padding, which comes last, changes nothing. pooling: of
    the text tower, its own or the first token. projects: whether projections follow the towers.
    has_bias: whether a bias was learned beside the scale. alike: whether both towers are of one
    design, with one activation.
    """

    model_class: str
    pads: Literal["longest", "max"] = "longest"
    causal: bool = False
    pooling: TextPooling = "pooler"
    projects: bool = True
    has_bias: bool = False
    alike: bool = True


FAMILIES = {
    "clip": Family("CLIPModel", causal=True),
    "siglip": Family("SiglipModel", pads="max", projects=False, has_bias=True),
    "siglip2": Family("Siglip2Model", pads="max", projects=False, has_bias=True),
    "vision-text-dual-encoder": Family("VisionTextDualEncoderModel", alike=False),
    "chinese_clip": Family("ChineseCLIPModel", pooling="first", alike=False),
}


class ImageHalf(nn.Module):
    """Pixels to embedding and features."""

    def __init__(self, family: Family, model: Any) -> None:
        """Take the modules of a two-tower model."""
        super().__init__()
        self.tower = model.vision_model
        self.projection = model.visual_projection if family.projects else None

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to embeddings (B, D), before unit length, and features (B, F)."""
        features: Tensor = self.tower(pixel_values=pixels).pooler_output
        return (features if self.projection is None else self.projection(features)), features


class TextHalf(nn.Module):
    """Tokens to embedding and features."""

    def __init__(self, family: Family, model: Any, *, uses_mask: bool) -> None:
        """Take the modules of a two-tower model; uses_mask: whether the original is given a mask.

        SigLIP was trained to look at its padding.
        """
        super().__init__()
        self.tower = model.text_model
        self.projection = model.text_projection if family.projects else None
        self.pooling = family.pooling
        self.uses_mask = uses_mask and not family.causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) int64, twice, to embeddings (B, D), before unit length, and features (B, F')."""
        mask = attention_mask if self.uses_mask else None
        output = self.tower(input_ids=input_ids, attention_mask=mask)
        features: Tensor = (
            output.pooler_output if self.pooling == "pooler" else output.last_hidden_state[:, 0]
        )
        return (features if self.projection is None else self.projection(features)), features


class FeatureHalf(nn.Module):
    """Pixels to features, twice, for a model of images alone: its features are its embedding."""

    def __init__(self, tower: nn.Module) -> None:
        """tower: pixels (B, 3, S, S) to features (B, F)."""
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to features (B, F), twice."""
        features: Tensor = self.tower(pixels)
        return features, features
