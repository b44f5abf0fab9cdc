"""The families of Hugging Face checkpoints: which module gives features, which the embedding.

Each half is one function of pixels or tokens, as a bundle's graph must be; the halves are made of
the original's own modules. What its files must say is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

TextPooling = Literal["pooler", "first"]


class ImageHalf(nn.Module):
    """Pixels to embedding and features."""

    def __init__(self, tower: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.tower = tower
        self.projection = projection

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to embeddings (B, D), before unit length, and features (B, F)."""
        features: Tensor = self.tower(pixel_values=pixels).pooler_output
        return (features if self.projection is None else self.projection(features)), features


class TextHalf(nn.Module):
    """Tokens to embedding and features.

    uses_mask: whether the original looks at the attention mask; causal towers need none, as padding
    comes last, and SigLIP was trained to look at its padding.
    """

    def __init__(
        self,
        tower: nn.Module,
        projection: nn.Module | None,
        *,
        pooling: TextPooling,
        uses_mask: bool,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.projection = projection
        self.pooling = pooling
        self.uses_mask = uses_mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) int64, twice, to embeddings (B, D), before unit length, and features (B, F')."""
        mask = attention_mask if self.uses_mask else None
        output = self.tower(input_ids=input_ids, attention_mask=mask)
        features: Tensor = (
            output.pooler_output if self.pooling == "pooler" else output.last_hidden_state[:, 0]
        )
        return (features if self.projection is None else self.projection(features)), features


@dataclass(frozen=True)
class Family:
    """What two-tower models of one `model_type` have in common.

    model_class: its name in transformers; pads: as `TextSpec.pad`; causal: whether a text token
    sees those before it alone; pooling: of the text tower; projects: whether there are projections
    after the towers; has_bias: whether a bias was learned beside the scale.
    """

    model_class: str
    pads: Literal["longest", "max"] = "longest"
    causal: bool = False
    pooling: TextPooling = "pooler"
    projects: bool = True
    has_bias: bool = False


FAMILIES = {
    "clip": Family("CLIPModel", causal=True),
    "siglip": Family("SiglipModel", pads="max", projects=False, has_bias=True),
    "vision-text-dual-encoder": Family("VisionTextDualEncoderModel"),
    "chinese_clip": Family("ChineseCLIPModel", pooling="first"),
}


def image_half(family: Family, model: Any) -> ImageHalf:
    """Take the image half of a two-tower model."""
    return ImageHalf(model.vision_model, model.visual_projection if family.projects else None)


def text_half(family: Family, model: Any, *, uses_mask: bool) -> TextHalf:
    """Take the text half of a two-tower model."""
    return TextHalf(
        model.text_model,
        model.text_projection if family.projects else None,
        pooling=family.pooling,
        uses_mask=uses_mask and not family.causal,
    )
