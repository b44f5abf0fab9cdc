"""From a decoded picture to the pixels of a model: the one copy of resize, crop and normalise.

Training, export and the runtime all call `preprocess`, so a model never meets pixels it was not
trained on. This file decodes nothing (see `images`) and runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import ceil
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError
from miniclip.patches import in_patches, patch_grid

Triple = tuple[float, float, float]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_STRIP = 16  # times as long as it is wide
_ENOUGH = 448  # twice the side of most models; smaller ones would see what the scaling does
_RESIZE_RULES = ("squash", "shortest", "patches")
_CROP_RULES = ("floor", "round")


@dataclass(frozen=True)
class ImageSpec:
    """How a picture becomes the input of an image tower.

    side:          S, the side of the square that the model sees, in pixels.
    resize:        "squash" stretches the whole picture to a square of `resize_side`, "shortest"
                   scales its shortest edge to `resize_side`; both cut the central S x S out.
                   "patches" keeps its shape, in as many patches as cover S x S (see `patches.py`).
    resize_side:   before the cut, at least `side`; with "patches" equal to `side`.
    interpolation: "bicubic", "bilinear" or "lanczos", antialiased as in Pillow.
    mean, std:     per channel R, G, B, in units of a pixel scaled to 0..1.
    crop:          where the cut begins if an odd number of pixels is left over: at half of it,
                   rounded down, "floor", as by Hugging Face, or "round" to even as by torchvision.
    patch:         with "patches", the side of one, by which `side` is divided; else None.

    Raises ConfigError for a value that cannot be used.
    """

    side: int
    resize: Literal["squash", "shortest", "patches"]
    resize_side: int
    interpolation: Literal["bicubic", "bilinear", "lanczos"]
    mean: Triple
    std: Triple
    crop: Literal["floor", "round"] = "floor"
    patch: int | None = None

    def __post_init__(self) -> None:
        for name in ("side", "resize_side"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"image spec: {name} is {value!r}; give a whole number above 0")
        for name, known in (
            ("resize", _RESIZE_RULES),
            ("interpolation", tuple(_FILTERS)),
            ("crop", _CROP_RULES),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"image spec: {name} is {value!r}; choose one of {', '.join(known)}"
                )
        self._check_patch()
        if self.resize_side < self.side:
            raise ConfigError(
                f"image spec: resize_side is {self.resize_side}, smaller than side {self.side}; "
                "the cut would leave the picture, so give at least side"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"image spec: std is {self.std}; every value must be above 0")

    def _check_patch(self) -> None:
        if (self.resize == "patches") is not (self.patch is not None):
            raise ConfigError(
                f"image spec: patch is {self.patch!r} but resize is {self.resize!r}; "
                "a patch belongs to resize 'patches', and it alone"
            )
        if self.patch is None:
            return
        if type(self.patch) is not int or self.patch < 1 or self.side % self.patch:
            raise ConfigError(
                f"image spec: patch is {self.patch!r}; give a whole number that divides the side, "
                f"{self.side}"
            )
        if self.resize_side != self.side:
            raise ConfigError(
                f"image spec: resize_side is {self.resize_side} but side is {self.side}; "
                "with resize 'patches' both must be equal"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what `preprocess` gives: (3, S, S), or (3, S + patch, S) with "patches"."""
        return (3, self.side + (self.patch or 0), self.side)

    def enough(self, zoom: float = 1.0) -> int:
        """Return the least shortest side at which a JPEG may be decoded, in pixels.

        The fast scaling of `images.decode` then leaves no trace in the vectors. zoom: of a view.
        """
        return ceil(max(_ENOUGH, 2 * self.resize_side) * zoom)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values that JSON can hold; crop and patch only where needed."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        if self.crop == "floor":
            del values["crop"]  # as in every spec that was written before there was a choice
        if self.patch is None:
            del values["patch"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; ConfigError names a key that is missing or unknown."""
        names = {field.name for field in fields(cls)}
        for problem, keys in (
            ("misses", names - set(values) - {"crop", "patch"}),
            ("has unknown", set(values) - names),
        ):
            if keys:
                raise ConfigError(
                    f"image spec {problem} key(s) {', '.join(sorted(map(str, keys)))}; "
                    f"it needs exactly {', '.join(sorted(names))}"
                )
        return cls(**values)


def preprocess(image: Image.Image, spec: ImageSpec) -> FloatArray:
    """Resize, crop and normalise one RGB picture.

    Returns float32 of `spec.shape`, C-contiguous: (pixel / 255 - mean) / std.
    Raises ConfigError for a picture that is not RGB; `images.decode` always returns RGB.
    """
    if image.mode != "RGB":
        raise ConfigError(
            f"preprocess got a picture of mode {image.mode}; decode it with miniclip.images.decode"
        )
    if spec.patch is not None:
        return canvas_pixels(image, spec)
    return canvas_pixels(_square(image, spec), spec)


def canvas(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Return the picture as the model sees it: resized and cut, its colours still as they are.

    With "patches" it has the size of its grid of patches.
    """
    if spec.patch is None:
        return _square(image, spec)
    most = (spec.side // spec.patch) ** 2
    rows, columns = patch_grid(*image.size, patch=spec.patch, most=most)
    size = (columns * spec.patch, rows * spec.patch)
    return image.resize(size, _FILTERS[spec.interpolation])


def canvas_pixels(picture: Image.Image, spec: ImageSpec) -> FloatArray:
    """Normalise what `canvas` gave, as `preprocess` does: float32 of `spec.shape`."""
    factor, offset = _affine(spec.mean, spec.std)
    if spec.patch is not None:
        kernel = _FILTERS[spec.interpolation]
        return in_patches(
            picture, side=spec.side, patch=spec.patch, kernel=kernel, factor=factor, offset=offset
        )
    pixels = np.asarray(picture).transpose(2, 0, 1)
    out = np.empty(spec.shape, dtype=np.float32)
    np.multiply(pixels, factor, out=out)
    out += offset
    return out


def _square(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Apply the resize rule: the S x S picture that the model sees.

    Only strips get a `box`, for a strip of 1 x 60,000 pixels would grow to 9 GB on its way to
    224 x 224. It moves some pixels by a level, as `reducing_gap` would.
    """
    kernel = _FILTERS[spec.interpolation]
    if spec.resize == "squash":
        width = height = spec.resize_side
    else:
        shortest = min(image.size)
        width, height = (spec.resize_side * length // shortest for length in image.size)
    spare = (width - spec.side, height - spec.side)
    left, top = (round(n / 2) if spec.crop == "round" else n // 2 for n in spare)
    if max(width, height) > _STRIP * spec.resize_side:
        across, down = image.width / width, image.height / height
        right, bottom = left + spec.side, top + spec.side
        box = (left * across, top * down, right * across, bottom * down)
        return image.resize((spec.side, spec.side), kernel, box)
    resized = image.resize((width, height), kernel)
    if not any(spare):
        return resized
    return resized.crop((left, top, left + spec.side, top + spec.side))


@lru_cache(maxsize=16)
def _affine(mean: Triple, std: Triple) -> tuple[FloatArray, FloatArray]:
    """Return (3, 1, 1) float32 each, so that normalising is factor * pixel + offset."""
    centre, spread = np.array(mean), np.array(std)
    factor = (1 / (255 * spread)).astype(np.float32)[:, None, None]
    offset = (-centre / spread).astype(np.float32)[:, None, None]
    return factor, offset


def _triple(name: str, values: object) -> Triple:
    try:
        red, green, blue = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ConfigError(
            f"image spec: {name} is {values!r}; give three numbers for red, green and blue"
        ) from None
    return (red, green, blue)
