"""Image towers: pixels to features, and where each is cut into a frozen and a learning part.

EfficientNet-Lite comes from `efficientnet_lite`; any Hugging Face vision model through `hub`.
Projection to the shared space is the business of `heads`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.preprocess import ImageSpec
from miniclip.train.towers.efficientnet_lite import (
    FEATURE_DIM,
    PIXEL_MEAN,
    PIXEL_STD,
    SCALINGS,
    ConvNorm,
    EfficientNetLite,
    InvertedResidual,
    Variant,
)
from miniclip.train.towers.freezing import Trainable, find_blocks, keep_still, set_trainable
from miniclip.train.towers.hub import load_config, load_model
from miniclip.train.towers.image_specs import read_image_spec

Cut = Literal["features", "map"]

# Of EfficientNet, what told scans and waste apart best beside the features.
TEXTURED_STAGES = slice(2, 6)  # maps of 1/8 to 1/32 of the side, but for the last
OPENED_STAGES = slice(2, 5)


class ImageTower(nn.Module, ABC):
    """Pixels to features.

    source: what it was loaded from; feature_dim: F; image_spec: the pixels that it expects.
    """

    source: str
    feature_dim: int
    image_spec: ImageSpec

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, F) float32."""

    def described(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) to the features (B, F), then what earlier maps say, if any, (B, C) each.

        They tell what the features have forgotten, at no cost; classifiers ask for them, and a head
        that reads all layers (see `described`).
        """
        return (self(pixels),)

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many numbers each part of `described` has, the features first."""
        side = self.image_spec.side
        with torch.no_grad():
            parts = self.described(torch.zeros(1, 3, side, side))
        return tuple(part.shape[1] for part in parts)

    @abstractmethod
    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to the last map (B, C, H, W). TrainingError when the model has none."""

    @abstractmethod
    def split(
        self, trainable: str = "none", *, cut: Cut = "features"
    ) -> tuple[nn.Module, nn.Module]:
        """Freeze all but the part that learns, and return (frozen, live).

        live(frozen(pixels)) is forward(pixels). The output of `frozen` never changes in training,
        so it may be cached, unless `frozen` is an `nn.Identity`. trainable is "none", "last:N" (the
        last N blocks and what follows them) or "all". With "none", cut "features" leaves nothing
        live but an identity, and cut "map" leaves the frozen way from the last map to the features.
        """

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for frozen parts and batch normalisation (see `keep_still`)."""
        super().train(mode)
        keep_still(self)
        return self


class LiteTower(ImageTower):
    """EfficientNet-Lite without its classifier; the features are the mean of the last map."""

    def __init__(self, network: EfficientNetLite, *, side: int | None = None) -> None:
        """Take the layers of `network`; side: S, the variant's own when None."""
        super().__init__()
        self.source = f"efficientnet-lite{network.variant}"
        self.feature_dim = FEATURE_DIM
        side = side or network.side
        self.image_spec = ImageSpec(
            side, "squash", side, "bicubic", (PIXEL_MEAN,) * 3, (PIXEL_STD,) * 3
        )
        self.steps = nn.Sequential(network.stem, *network.blocks, PooledHead(network.head))
        ends = tuple(1 + block for block in network.stage_ends)  # the stem comes first
        self.textured, self.opened = ends[TEXTURED_STAGES], ends[OPENED_STAGES]
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, 1280) float32."""
        features: Tensor = self.steps(pixels)
        return features

    def described(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) to features (B, 1280), then four textures, then three inner means.

        An inner mean is that of the wide map inside the last block of a stage.
        """
        textures, means = [], []
        x = pixels
        for number, step in enumerate(self.steps):
            if number in self.opened:
                block = cast(InvertedResidual, step)
                wide = block.opened(x)
                means.append(wide.float().mean((2, 3)))
                x = block.closed(wide, x)
            else:
                x = step(x)
            if number in self.textured:
                textures.append(texture(x))
        return (x, *textures, *means)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 1280, s, s), s = ceil(S / 32); its mean is the features."""
        return cast(PooledHead, self.steps[-1]).feature_map(self.steps[:-1](pixels))

    def split(
        self, trainable: str = "none", *, cut: Cut = "features"
    ) -> tuple[nn.Module, nn.Module]:
        """Cut between blocks; "last:0" leaves the head convolution alone to learn.

        The map of cut "map", and of "last:0", is the one before the head convolution: it has a
        quarter of the channels, so caching it costs a quarter.
        """
        setting = Trainable.parse(trainable, available=len(self.steps) - 2)
        before_head = len(self.steps) - 1
        first_live = {
            "none": before_head if cut == "map" else len(self.steps),
            "last": before_head - setting.blocks,
            "all": 0,
        }[setting.extent]
        self.requires_grad_(False)
        if setting.extent != "none":
            self.steps[first_live:].requires_grad_(True)
        steps = list(self.steps)
        return _chained(steps[:first_live]), _chained(steps[first_live:])


def texture(x: Tensor) -> Tensor:
    """How strongly each channel of a map (B, C, H, W) answers, wherever: root mean square (B, C).

    The means of linear maps say little, as both signs cancel; their second moments describe
    textures (Gatys et al. 2015, section 2, of which this is the diagonal).
    """
    return x.float().square().mean((2, 3)).sqrt()


class PooledHead(nn.Module):
    """The last 1x1 convolution and the mean over places."""

    def __init__(self, head: ConvNorm) -> None:
        super().__init__()
        self.head = head

    def feature_map(self, trunk: Tensor) -> Tensor:
        """(B, C, s, s) to (B, 1280, s, s)."""
        features: Tensor = self.head(trunk)
        return features

    def forward(self, trunk: Tensor) -> Tensor:
        """(B, C, s, s) to (B, 1280) float32."""
        return self.feature_map(trunk).float().mean((2, 3))


class TransformersImageTower(ImageTower):
    """Any Hugging Face vision model (ResNet, ConvNeXt, ViT, DINOv2, the image half of CLIP, ...).

    The features are the model's `pooler_output` where the checkpoint trained it or it has no
    weights; else, as for a ViT saved with a classifier, the class token; else the mean over places.
    """

    def __init__(
        self, source: str, backbone: nn.Module, image_spec: ImageSpec, untrained: frozenset[str]
    ) -> None:
        super().__init__()
        self.source = source
        self.backbone = backbone
        self.image_spec = image_spec
        self.pooling = _choose_pooling(backbone, self._probe(), untrained)
        others = {name for name in untrained if not _is_pooler(name)}
        if others:
            raise TrainingError(
                f"the checkpoint {source} holds no weights for {', '.join(sorted(others)[:5])}; "
                "they would be random, so give a complete checkpoint"
            )
        if self.pooling != "pooler" and isinstance(getattr(backbone, "pooler", None), nn.Module):
            backbone.pooler = None  # type: ignore[assignment]
        self.feature_dim = int(self._pooled(self._probe()).shape[1])

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, F) float32."""
        return self._pooled(self.backbone(pixel_values=pixels))

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, C, H, W); of tokens, those that stand for a place, in a square."""
        last: Tensor = self.backbone(pixel_values=pixels).last_hidden_state
        if last.ndim == 4:
            return last
        side = math.isqrt(last.shape[1])  # class and register tokens come first and are few
        places = last[:, last.shape[1] - side * side :]
        return places.transpose(1, 2).reshape(len(last), -1, side, side)

    def split(
        self, trainable: str = "none", *, cut: Cut = "features"
    ) -> tuple[nn.Module, nn.Module]:
        """Freeze parameters; foreign graphs are not cut, so only with "none" is `frozen` a cache.

        TrainingError for cut "map".
        """
        if cut == "map":
            raise TrainingError(
                f"{self.source} cannot be cut at its last map; set cut to 'features'"
            )
        available = len(find_blocks(self.backbone)[1]) if trainable.startswith("last") else 0
        setting = Trainable.parse(trainable, available=available)
        set_trainable(self.backbone, setting)
        for name, parameter in self.backbone.named_parameters():
            if name.endswith("mask_token"):  # DDP would wait for its gradient
                parameter.requires_grad_(False)
        return (self, nn.Identity()) if setting.extent == "none" else (nn.Identity(), self)

    def _probe(self) -> Any:
        side = self.image_spec.side
        try:
            with torch.no_grad():
                return self.backbone(pixel_values=torch.zeros(1, 3, side, side))
        except (RuntimeError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{self.source} does not take images of side {side} ({error}); "
                "correct its preprocessor_config.json or choose a vision model"
            ) from error

    def _pooled(self, output: Any) -> Tensor:
        if self.pooling == "pooler":
            pooled: Tensor = output.pooler_output.flatten(1)
        elif self.pooling == "cls":
            pooled = output.last_hidden_state[:, 0]
        else:
            last = output.last_hidden_state
            pooled = last.mean((2, 3)) if last.ndim == 4 else last.mean(1)
        return pooled.float()


def load_image_tower(source: str, *, side: int | None = None) -> ImageTower:
    """Load a tower: "efficientnet-lite0", "-lite1", "-lite2", or a source as in `hub`.

    "A+B" joins towers (see `joined`); Lite towers then share the largest of their sides.
    side: S other than the published one, for EfficientNet-Lite only.
    TrainingError when it cannot be loaded.
    """
    parts = source.split("+")
    if len(parts) > 1:
        from miniclip.train.towers.joined import JoinedTower  # noqa: PLC0415 - it builds on this file

        sides = [
            SCALINGS[variant].side for part in parts if (variant := lite_variant(part)) is not None
        ]
        side = side or max(sides, default=None)
        return JoinedTower([load_image_tower(part, side=side) for part in parts])
    variant = lite_variant(source)
    if variant is not None:
        return LiteTower(EfficientNetLite.from_installed_weights(variant), side=side)
    if side is not None:
        raise TrainingError(
            f"side {side} was asked of {source}, whose side is fixed by its checkpoint; "
            "leave side out, or use an EfficientNet-Lite"
        )
    config = load_config(source, part="vision")
    model, untrained = load_model(source, config)
    return TransformersImageTower(source, model, read_image_spec(source), untrained)


def lite_variant(source: str) -> Variant | None:
    """Return which EfficientNet-Lite a source names, if it names one."""
    matched = re.fullmatch(r"efficientnet-lite([012])", source)
    return cast(Variant, int(matched[1])) if matched else None


def _choose_pooling(
    backbone: nn.Module, output: Any, untrained: frozenset[str]
) -> Literal["pooler", "cls", "mean"]:
    if getattr(output, "last_hidden_state", None) is None:
        raise TrainingError(
            f"{type(backbone).__name__} gives no last_hidden_state; choose a plain vision model"
        )
    has_pooler = getattr(output, "pooler_output", None) is not None
    if has_pooler and not any(map(_is_pooler, untrained)):
        return "pooler"
    names = {name.rpartition(".")[2] for name, _ in backbone.named_parameters()}
    return "cls" if names & {"cls_token", "class_embedding"} else "mean"


def _is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


def _chained(steps: list[nn.Module]) -> nn.Module:
    return nn.Sequential(*steps) if steps else nn.Identity()
