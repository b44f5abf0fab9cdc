"""What else happens to pictures: JPEG, resizing, cropping, colour casts, rotation, camera noise."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from miniclip.corruptions.digital import as_jpeg
from miniclip.corruptions.pixels import Pixels, Shades, shades

_GAMMA = np.float32(2.2)


def jpeg_quality(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Write and read a JPEG of the qualities that are in use."""
    return as_jpeg(image, (90, 75, 60, 45, 30)[severity - 1])


def resize(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Make the picture smaller and then as large as before, both bicubic: detail is lost."""
    share = (0.75, 0.5, 0.375, 0.25, 0.125)[severity - 1]
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    kernel = Image.Resampling.BICUBIC
    return np.asarray(picture.resize(small, kernel).resize(picture.size, kernel))


def crop(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """See only a share of each side, anywhere in the picture, as large as before."""
    share = (0.9, 0.8, 0.7, 0.6, 0.5)[severity - 1]
    picture = Image.fromarray(image)
    left, top = (rng.uniform(0, (1 - share) * length) for length in picture.size)
    box = (left, top, left + share * picture.width, top + share * picture.height)
    return np.asarray(picture.resize(picture.size, Image.Resampling.BICUBIC, box=box))


def colour_cast(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Light of another colour: warmer or colder (red against blue), a little green or magenta."""
    strength = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    warm, green = rng.choice((-1.0, 1.0)), rng.uniform(-0.3, 0.3)
    gains = np.exp(strength * np.array((warm, green, -warm), dtype=np.float32))
    cast: Shades = shades(image) * gains
    return cast


def rotation(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Turn the picture either way; the corners show its mirror image."""
    degrees = (5, 10, 20, 30, 45)[severity - 1] * rng.choice((-1, 1))
    height, width = image.shape[:2]
    # A corner comes from at most half the diagonal away.
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned)[margin : margin + height, margin : margin + width]


def camera_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Noise of a sensor: of the light, and of reading it out.

    variance = light / photons + read^2 in linear light, the Poisson-Gaussian model of Foi et al.
    2008, "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data".
    """
    photons, read = ((400, 0.004), (150, 0.008), (60, 0.012), (25, 0.02), (10, 0.03))[severity - 1]
    light = shades(image) ** _GAMMA
    spread = np.sqrt(light / np.float32(photons) + np.float32(read**2))
    noisy = light + spread * rng.standard_normal(image.shape, np.float32)
    return np.asarray(noisy.clip(0, 1) ** (1 / _GAMMA))
