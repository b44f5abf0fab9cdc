"""A tower whose features are all that it has to say: the last layer's, and what earlier maps say.

A classifier's last layer has forgotten what does not tell its classes apart, colours and materials
first, and sentences speak of those. The inner tower loads, trains and is cut as it always is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.train.towers.freezing import Trainable
from miniclip.train.towers.image import Cut, ImageTower


class DescribedTower(ImageTower):
    """The parts of `described` side by side; F is the sum of theirs.

    inner: the tower that is asked.
    """

    def __init__(self, inner: ImageTower) -> None:
        """TrainingError when the tower says nothing but its features."""
        super().__init__()
        self.inner = inner
        self.source = inner.source
        self.image_spec = inner.image_spec
        self.feature_dim = sum(inner.feature_parts)
        if len(inner.feature_parts) == 1:
            raise TrainingError(
                f"{self.source} gives the features of its last layer only; set image.layers to "
                "'last', or take an EfficientNet-Lite"
            )
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, F) float32."""
        return torch.cat(self.inner.described(pixels), dim=1)

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many of the features come from each layer, the last layer's first."""
        return self.inner.feature_parts

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to the last map of the inner tower."""
        return self.inner.feature_map(pixels)

    def split(
        self, trainable: str = "none", *, cut: Cut = "features"
    ) -> tuple[nn.Module, nn.Module]:
        """Freeze everything or nothing. TrainingError for "last:N" and for cut "map"."""
        if cut == "map" or trainable.startswith("last"):
            raise TrainingError(
                "all layers are read of a tower that is frozen or trained as a whole: set "
                "image.trainable to 'none' or 'all' and image.cut to 'features', or image.layers "
                "to 'last'"
            )
        self.inner.split(trainable)
        whole = Trainable.parse(trainable, available=0).extent == "all"
        return (nn.Identity(), self) if whole else (self, nn.Identity())
