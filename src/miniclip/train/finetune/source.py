"""From a bundle back to the torch tower that it was made from, and the proof that it is the one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import Bundle
from miniclip.encoder import Encoder
from miniclip.errors import TrainingError
from miniclip.train.towers.centre import enlarged_centre
from miniclip.train.towers.described import DescribedTower
from miniclip.train.towers.image import ImageTower, lite_variant, load_image_tower

MIN_COSINE = 0.999
_RUN_FILE = "recipe.json"
_CURE = (
    "name the tower that it was made from with --tower: the directory of its training run, or a "
    "source such as efficientnet-lite2"
)


class Looks(nn.Module):
    """An image tower, and whether it looks a second time, at the enlarged centre."""

    def __init__(self, tower: ImageTower, centre: float | None) -> None:
        super().__init__()
        self.tower = tower
        self.centre = centre

    def looks(self, pixels: Tensor) -> list[Tensor]:
        """Return what the tower is shown of (B, 3, S, S): one or two of the same shape."""
        return [pixels] if self.centre is None else [pixels, enlarged_centre(pixels, self.centre)]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) float32 from `preprocess` to features (B, F), the mean over the looks."""
        features = [self.tower(look) for look in self.looks(pixels)]
        return torch.stack(features).mean(0)


def load_looks(bundle: Bundle, tower: str | None = None) -> Looks:
    """Load the tower that a bundle's provenance names, or another that is given.

    tower: the directory of a training run, or a source as `load_image_tower` takes it.
    TrainingError when nothing is named, or it cannot be loaded.
    """
    provenance = bundle.manifest.provenance
    if tower and (Path(tower).expanduser() / _RUN_FILE).exists():
        from miniclip.train.run import load_trained  # noqa: PLC0415 - Lightning, for this case alone

        model = load_trained(Path(tower).expanduser()).model
        trained = model.image_tower
        inner = trained.inner if isinstance(trained, DescribedTower) else trained
        return Looks(inner, model.image_centre)
    source = tower or provenance.get("image_tower")
    if not source:
        raise TrainingError(f"{bundle.directory} does not say what its tower was; {_CURE}")
    lite = any(lite_variant(part) is not None for part in source.split("+"))
    side = bundle.manifest.image.side if lite else None
    centre = provenance.get("image_centre")
    return Looks(load_image_tower(source, side=side), float(centre) if centre else None)


def check_looks(looks: Looks, encoder: Encoder, pixels: FloatArray) -> None:
    """Refuse a tower whose features are not those of the bundle.

    pixels: (B, 3, S, S) of some images. TrainingError below a cosine of 0.999 on any of them.
    """
    spec = looks.tower.image_spec
    if spec != encoder.image_spec:
        raise TrainingError(f"the tower takes {spec}, {encoder.name} {encoder.image_spec}; {_CURE}")
    with torch.no_grad():
        features = looks.eval()(torch.from_numpy(pixels)).numpy()
    expected = encoder.encode_pixels(pixels).features[:, : encoder.feature_parts[0]]
    same_width = features.shape == expected.shape
    cosine = np.sum(unit_rows(features) * unit_rows(expected), axis=1).min() if same_width else 0.0
    if not cosine >= MIN_COSINE:
        raise TrainingError(
            f"{looks.tower.source} is not the image tower of {encoder.name}: on "
            f"{len(pixels)} images the least cosine of their features is {cosine:.4f}, "
            f"and must be at least {MIN_COSINE}; {_CURE}"
        )
