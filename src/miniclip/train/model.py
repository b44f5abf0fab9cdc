"""`TwoTower`: an image tower, a text tower, a head on each, and the scale of their cosines.

It is what training changes and export writes. Losses, data and the loop are elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.errors import TrainingError
from miniclip.train.losses import MAX_LOGIT_SCALE, bounded_scale
from miniclip.train.towers.centre import enlarged_centre
from miniclip.train.towers.image import Cut, ImageTower
from miniclip.train.towers.text import TextTower

LEAST_STD = 0.3  # of the median


@dataclass(frozen=True)
class LearningRates:
    """A learning rate for each part; a part whose rate is 0 stays as it is."""

    image_tower: float
    text_tower: float
    heads: float
    scale: float


class TwoTower(nn.Module):
    """Images and texts to unit rows (B, D) of one space.

    trainable parts are chosen at construction; `trunk` is the part of the image tower that stays
    fixed, and whose output may be cached when `caches_trunk`.
    """

    log_scale: nn.Parameter
    bias: nn.Parameter
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        image_tower: ImageTower,
        text_tower: TextTower,
        image_head: nn.Module,
        text_head: nn.Module,
        *,
        image_trainable: str = "none",
        image_cut: Cut = "features",
        image_centre: float | None = None,
        text_trainable: str = "all",
        train_embeddings: bool = True,
        scale: float = 1 / 0.07,
        bias: float | None = None,
    ) -> None:
        """Join the parts.

        image_trainable, image_cut: see `ImageTower.split`; image_centre: share of the sides that
        `encode_image` looks at a second time (see `towers.centre`); text_trainable,
        train_embeddings: see `TextTower.set_trainable`. scale: the first factor from cosine to
        logit, learned as its logarithm (CLIP). bias: the first value of the learned bias of a
        sigmoid loss; None fixes it at 0.
        """
        super().__init__()
        if not 0 < scale <= MAX_LOGIT_SCALE:
            raise TrainingError(
                f"scale is {scale}; give a number above 0, at most {MAX_LOGIT_SCALE:g}"
            )
        self.image_tower = image_tower
        self.text_tower = text_tower
        self.image_centre = image_centre
        self.image_head = image_head
        self.text_head = text_head
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias or 0.0), requires_grad=bias is not None)
        self.register_buffer("feature_mean", torch.zeros(image_tower.feature_dim))
        self.register_buffer("feature_std", torch.ones(image_tower.feature_dim))
        # In a tuple, so that they are not registered: their modules already are, in the tower.
        self._image_parts = image_tower.split(image_trainable, cut=image_cut)
        text_tower.set_trainable(text_trainable, embeddings=train_embeddings)

    @property
    def caches_trunk(self) -> bool:
        """Whether the output of `trunk` is worth keeping: some of the image tower is fixed."""
        return not isinstance(self._image_parts[0], nn.Identity)

    @property
    def fixed_part(self) -> nn.Module:
        """What `trunk` runs."""
        return self._image_parts[0]

    @property
    def embedding_dim(self) -> int:
        """D."""
        zeros = torch.zeros(1, self.image_tower.feature_dim, device=self.log_scale.device)
        training = self.image_head.training
        with torch.no_grad():
            width = self.image_head.eval()(zeros).shape[1]
        self.image_head.train(training)
        return int(width)

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many numbers of `described_pixels` come from each layer, the last one's first."""
        return self.image_tower.feature_parts

    @property
    def scale(self) -> Tensor:
        """Factor from cosine to logit, () float32, above 0 and at most 100."""
        return bounded_scale(self.log_scale)

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) through the fixed part of the image tower, without gradients."""
        with torch.no_grad():
            output: Tensor = self._image_parts[0](pixels)
        return output

    def image_features(self, trunk_output: Tensor) -> Tensor:
        """Take what `trunk` gave through the rest of the image tower: features (B, F) float32."""
        features: Tensor = self._image_parts[1](trunk_output)
        return features

    def project_image(self, features: Tensor) -> Tensor:
        """Features (B, F) to unit rows (B, D) float32."""
        return F.normalize(self.image_embedding(features), dim=-1)

    def image_embedding(self, features: Tensor) -> Tensor:
        """Features (B, F) to embeddings (B, D) float32, before unit length."""
        standardised = (features - self.feature_mean) / self.feature_std
        embedding: Tensor = self.image_head(standardised)
        return embedding.float()

    def pixel_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to features (B, F) float32 as a user gets them: of one look, or of two."""
        features: Tensor = self.image_tower(pixels)
        if self.image_centre is None:
            return features
        closer: Tensor = self.image_tower(enlarged_centre(pixels, self.image_centre))
        return (features + closer) / 2

    def described_pixels(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """`pixel_features`, then what earlier maps say, if anything: (B, C) each."""
        described = self.image_tower.described(pixels)
        if self.image_centre is None:
            return described
        again = self.image_tower.described(enlarged_centre(pixels, self.image_centre))
        return tuple((one + other) / 2 for one, other in zip(described, again, strict=True))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to unit rows (B, D) float32."""
        return self.project_image(self.pixel_features(pixels))

    def text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) int64, twice, to features (B, F') float32."""
        features: Tensor = self.text_tower(input_ids, attention_mask)
        return features

    def project_text(self, features: Tensor) -> Tensor:
        """Features (B, F') to unit rows (B, D) float32."""
        return F.normalize(self.text_embedding(features), dim=-1)

    def text_embedding(self, features: Tensor) -> Tensor:
        """Features (B, F') to embeddings (B, D) float32, before unit length."""
        embedding: Tensor = self.text_head(features)
        return embedding.float()

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) int64, twice, to unit rows (B, D) float32."""
        return self.project_text(self.text_features(input_ids, attention_mask))

    def standardise_features(self, mean: Tensor, std: Tensor) -> None:
        """Fix what is taken from image features before the head, and what they are divided by.

        mean, std: (F,), measured on training images. A std counts as at least three tenths of the
        median of its layer: what hardly moves on those images may move much on others, and must
        not drown the rest. TrainingError for another shape or a value that is not finite.
        """
        for name, values in (("mean", mean), ("std", std)):
            if values.shape != self.feature_mean.shape or not values.isfinite().all():
                raise TrainingError(
                    f"{name} of image features has shape {tuple(values.shape)} or a value that is "
                    f"not finite; give {self.feature_mean.numel()} finite numbers"
                )
        self.feature_mean.copy_(mean)
        parts = list(self.feature_parts)
        layers = torch.split(std, parts if sum(parts) == len(std) else [len(std)])
        least = torch.cat([LEAST_STD * layer.median().expand_as(layer) for layer in layers])
        bounded = std.maximum(least)
        self.feature_std.copy_(torch.where(bounded > 0, bounded, torch.ones_like(std)))

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale at or below 100; call it after every step (CLIP, section 2.5)."""
        self.log_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def parameter_groups(
        self, rates: LearningRates, *, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Group what learns for an optimiser: one rate per part, no decay on vectors and scalars.

        Biases, norms, scale and bias are pulled to 0 by nothing. Each group has `params`, `lr`,
        `weight_decay` and `name`; empty groups are left out. TrainingError when nothing learns.
        """
        groups = []
        for name, rate, parameters in self._parts(rates):
            learning = [p for p in parameters if p.requires_grad and rate > 0]
            matrices = [p for p in learning if p.ndim >= 2]
            vectors = [p for p in learning if p.ndim < 2]
            for suffix, members, decay in (("", matrices, weight_decay), (".plain", vectors, 0.0)):
                if members:
                    groups.append(
                        {"name": name + suffix, "params": members, "lr": rate}
                        | {"weight_decay": decay}
                    )
        if not groups:
            raise TrainingError("nothing learns; unfreeze a tower or give a rate above 0")
        return groups

    def _parts(self, rates: LearningRates) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        heads = [*self.image_head.parameters(), *self.text_head.parameters()]
        yield "image_tower", rates.image_tower, list(self.image_tower.parameters())
        yield "text_tower", rates.text_tower, list(self.text_tower.parameters())
        yield "heads", rates.heads, heads
        yield "scale", rates.scale, [self.log_scale, self.bias]
