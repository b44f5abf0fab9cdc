"""Several image towers that look at the same pixels; their features stand side by side.

Two small networks that were trained apart err apart, so together they see more than either, at the
sum of their costs. Loading the members is done by `image`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.train.towers.freezing import Trainable
from miniclip.train.towers.image import Cut, ImageTower


class JoinedTower(ImageTower):
    """The features of the members, joined: F is the sum of theirs."""

    def __init__(self, members: Sequence[ImageTower]) -> None:
        """TrainingError when the members do not want the same pixels."""
        super().__init__()
        specs = {member.image_spec for member in members}
        self.source = "+".join(member.source for member in members)
        if len(specs) != 1:
            raise TrainingError(
                f"the towers of {self.source} want different pixels: "
                f"{'; '.join(str(spec) for spec in specs)}; join towers of one side and one mean"
            )
        self.members = nn.ModuleList(members)
        self.image_spec = specs.pop()
        self.feature_dim = sum(member.feature_dim for member in members)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, F) float32."""
        return torch.cat([member(pixels) for member in self.members], dim=1)

    def described(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) to features (B, F), and what the members' earlier maps say side by side.

        What not all members have is left out.
        """
        each = [member.described(pixels) for member in self._towers()]
        return tuple(torch.cat(parts, dim=1) for parts in zip(*each, strict=False))

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, F, s, s). TrainingError where the members' maps differ in side."""
        maps = [member.feature_map(pixels) for member in self._towers()]
        if len({tuple(part.shape[2:]) for part in maps}) != 1:
            raise TrainingError(f"the maps of {self.source} differ in side and cannot be joined")
        return torch.cat(maps, dim=1)

    def split(
        self, trainable: str = "none", *, cut: Cut = "features"
    ) -> tuple[nn.Module, nn.Module]:
        """Freeze everything or nothing. TrainingError for "last:N" and for cut "map"."""
        setting = Trainable.parse(trainable, available=0)
        if cut == "map" or setting.extent == "last":
            raise TrainingError(
                f"{self.source} is frozen or trained as a whole: set image.trainable to 'none' or "
                "'all' and image.cut to 'features', or take one tower"
            )
        self.requires_grad_(setting.extent == "all")
        return (self, nn.Identity()) if setting.extent == "none" else (nn.Identity(), self)

    def _towers(self) -> list[ImageTower]:
        return [member for member in self.members if isinstance(member, ImageTower)]
