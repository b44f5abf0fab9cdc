"""Pictures and models of which it is known what decides: what a method of explanation must find.

The models are a few lines of numpy and look at fixed places alone. Tests and benchmarks score the
methods on them; nobody else needs this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import ImageVectors
from miniclip.preprocess import ImageSpec
from miniclip.testing import FakeEncoder

SIDE = 42
Kind = Literal["quadrant", "background", "either", "both"]
Rule = Literal["mean", "either", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_RULES: dict[Kind, Rule] = {
    "quadrant": "mean",
    "background": "mean",
    "either": "either",
    "both": "both",
}

_COLOURS = np.array(((200, 40, 40), (40, 160, 40), (40, 60, 200), (220, 200, 40)), dtype=np.float32)
_SOFTNESS = 0.05  # squared distance in RGB over which a pixel stops counting for a colour
_SPEC = ImageSpec(SIDE, "squash", SIDE, "bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
_CORNER = SIDE // 3
_NOISE = 30.0  # standard deviation of pixels, of 255


def _everywhere() -> NDArray[np.bool_]:
    return np.ones((1, SIDE, SIDE), dtype=bool)


@dataclass(frozen=True)
class PlantedEncoder(FakeEncoder):
    """Sees the share of four colours at some places, and nothing anywhere else.

    regions: (R, S, S) bool. rule: "mean" over regions, or the largest share of any ("either"), or
    the smallest ("both"). Its embedding (D = 4) is made of the shares, its features as well.
    """

    name: str = "planted"
    image_spec: ImageSpec = _SPEC
    embedding_dim: int = len(_COLOURS)
    feature_dim: int = len(_COLOURS)
    feature_parts: tuple[int, ...] = (len(_COLOURS),)
    regions: NDArray[np.bool_] = field(default_factory=_everywhere, repr=False)
    rule: Rule = "mean"

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """pixels: (B, 3, S, S) float32 from `preprocess`."""
        shades = pixels.transpose(0, 2, 3, 1) / 2 + 0.5
        far = ((shades[..., None, :] - _COLOURS / 255) ** 2).sum(-1)  # (B, S, S, colours)
        near = np.exp(-far / _SOFTNESS)
        shares = np.stack([near[:, region].mean(axis=1) for region in self.regions])
        seen = {"mean": shares.mean(0), "either": shares.max(0), "both": shares.min(0)}[self.rule]
        features = seen.astype(np.float32)
        return ImageVectors(unit_rows(features), features)


@dataclass(frozen=True)
class Planted:
    """A picture, a model that answers `colour` because of `region`, (S, S) bool, and no other."""

    image: Image.Image
    encoder: PlantedEncoder
    colour: int
    region: NDArray[np.bool_]

    def score(self, vectors: ImageVectors) -> FloatArray:
        """Return how much of the colour the model sees: (B,), 0..1."""
        return vectors.features[:, self.colour]

    def hit_by(self, drops: FloatArray) -> bool:
        """Whether the highest cell of a map (G, G) lies in the region: the pointing game.

        Zhang et al. 2016, arXiv 1608.00507, section 4.2, with the middle of the cell as the point.
        """
        row, column = np.unravel_index(int(drops.argmax()), drops.shape)
        place = ((2 * np.array([row, column]) + 1) * SIDE) // (2 * len(drops))
        return bool(self.region[tuple(place)])


def planted(kind: Kind, count: int, *, seed: int = 0) -> Iterator[Planted]:
    """Yield pictures of random patches, noise over all.

    quadrant: one quadrant decides. background: all but a large object does. either: one of two
    corners is enough. both: two corners are needed. Every other place shows the four colours too.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        regions = _regions(kind, rng)
        colour = int(rng.integers(len(_COLOURS)))
        cells = rng.integers(len(_COLOURS), size=(6, 6))
        shown = _COLOURS[np.kron(cells, np.ones((SIDE // 6, SIDE // 6), dtype=int))]
        shown[regions.any(axis=0)] = _COLOURS[colour]
        noisy = np.clip(shown + rng.normal(scale=_NOISE, size=shown.shape), 0, 255)
        yield Planted(
            Image.fromarray(noisy.round().astype(np.uint8)),
            PlantedEncoder(regions=regions, rule=_RULES[kind]),
            colour,
            np.asarray(regions.any(axis=0)),
        )


def _regions(kind: Kind, rng: np.random.Generator) -> NDArray[np.bool_]:
    half = SIDE // 2
    if kind == "quadrant":
        return _box(rng.integers(2, size=2) * half, half)[None]
    if kind == "background":
        return ~_box(rng.integers(1, SIDE // 4, size=2), 3 * SIDE // 4)[None]
    far = SIDE - _CORNER
    corners = np.array([(0, 0), (0, far), (far, 0), (far, far)])[rng.permutation(4)[:2]]
    return np.stack([_box(corner, _CORNER) for corner in corners])


def _box(corner: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    top, left = corner
    box = np.zeros((SIDE, SIDE), dtype=bool)
    box[top : top + side, left : left + side] = True
    return box
