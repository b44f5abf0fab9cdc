"""Pictures made worse on purpose, in known kinds and degrees, to see what a model bears.

`STANDARD` are the 15 corruptions of ImageNet-C (Hendrycks and Dietterich 2019, "Benchmarking neural
network robustness to common corruptions and perturbations"), `EVERYDAY` what else happens to
pictures on their way to a model. All are pure: picture, name, severity and generator in, a new
picture out. This package decodes nothing and knows no model.

Sizes: the constants of ImageNet-C are pixels of a picture of 224 x 224. Here lengths (radii,
shifts, flakes, waves) grow with the shortest side, so that a corruption looks the same at any size
and is that of ImageNet-C at 224. Shares (zoom, crop, pixels kept) and what happens to each pixel by
itself (noise, contrast, JPEG's blocks of 8) do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from miniclip.corruptions import blur, digital, everyday, noise, weather
from miniclip.corruptions.pixels import Pixels, Shades, to_pixels
from miniclip.errors import ConfigError

VERSION = 1  # of the pictures that these functions make; vectors of another version are not reused
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 16  # pixels; below that a blur is wider than the picture

_Corruption = Callable[[Pixels, int, np.random.Generator], Shades | Pixels]

_FAMILIES: dict[str, tuple[_Corruption, ...]] = {
    "noise": (noise.gaussian_noise, noise.shot_noise, noise.impulse_noise),
    "blur": (blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur),
    "weather": (weather.snow, weather.frost, weather.fog, digital.brightness),
    "digital": (
        digital.contrast,
        digital.elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
    ),
    "everyday": (
        everyday.jpeg_quality,
        everyday.resize,
        everyday.crop,
        everyday.colour_cast,
        everyday.rotation,
        everyday.camera_noise,
    ),
}
_FUNCTIONS = {each.__name__: each for family in _FAMILIES.values() for each in family}
EVERYDAY = tuple(each.__name__ for each in _FAMILIES["everyday"])
STANDARD = tuple(name for name in _FUNCTIONS if name not in EVERYDAY)


def corrupt(image: Pixels, name: str, severity: int, rng: np.random.Generator) -> Pixels:
    """Return the picture, corrupted.

    image: (H, W, 3) uint8 RGB, no side below 16. severity: 1 to 5. rng: all chance comes from it.
    Returns (H, W, 3) uint8; the input stays as it is. As in ImageNet-C, levels are rounded down.
    Raises ConfigError for an unknown name or severity, or something that is no such picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ConfigError(
            f"a picture to corrupt has shape {image.shape} of {image.dtype}; give (H, W, 3) uint8"
        )
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ConfigError(
            f"a picture of {image.shape[1]} x {image.shape[0]} is too small to corrupt; give one "
            f"of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )
    if severity not in SEVERITIES:
        raise ConfigError(f"severity is {severity!r}; give a whole number from 1 to 5")
    (name,) = named_corruptions(name)
    return to_pixels(_FUNCTIONS[name](image, severity, rng))


def named_corruptions(text: str) -> tuple[str, ...]:
    """Read a list such as "blur,fog": names of corruptions and families, in our order.

    Families: noise, blur, weather, digital, everyday; "standard" is the first four, "all" all.
    ConfigError for another name.
    """
    groups = {family: tuple(e.__name__ for e in them) for family, them in _FAMILIES.items()}
    groups |= {"standard": STANDARD, "all": tuple(_FUNCTIONS)}
    wanted: set[str] = set()
    for word in filter(None, (part.strip().lower() for part in text.split(","))):
        if word not in groups and word not in _FUNCTIONS:
            raise ConfigError(
                f"no corruption is called {word!r}; choose from {', '.join(_FUNCTIONS)}, or the "
                f"families {', '.join(groups)}"
            )
        wanted.update(groups.get(word, (word,)))
    if not wanted:
        raise ConfigError("no corruption is named; name some, such as standard")
    return tuple(name for name in _FUNCTIONS if name in wanted)


def family_of(name: str) -> str:
    """Return the family that a corruption belongs to."""
    return next(
        family for family, them in _FAMILIES.items() if name in {each.__name__ for each in them}
    )
