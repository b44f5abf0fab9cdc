"""Brightness, contrast, waves, coarse pixels and JPEG (ImageNet-C)."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from miniclip.corruptions.pixels import Pixels, Shades, scale_of, shades


def brightness(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:  # noqa: ARG001
    """Raise the V of HSV; hue and saturation stay, so colours keep their proportions."""
    rise = np.float32((0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1])
    picture = shades(image)
    value = picture.max(axis=2, keepdims=True)
    raised = np.minimum(value + rise, 1)
    black = value == 0
    return np.asarray(np.where(black, raised, picture * (raised / np.where(black, 1, value))))


def contrast(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:  # noqa: ARG001
    """Pull each channel towards its mean."""
    share = np.float32((0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1])
    picture = shades(image)
    mean = picture.mean(axis=(0, 1), keepdims=True)
    paler: Shades = (picture - mean) * share + mean
    return paler


def elastic_transform(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Shift each pixel by smooth chance (Simard et al. 2003), in waves of 1 % of the side."""
    strength = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1] * scale_of(image)
    height, width = image.shape[:2]
    reach = 0.005 * height

    def waves() -> NDArray[np.float32]:
        chance = rng.uniform(-reach, reach, size=(height, width)).astype(np.float32)
        sigma = (0.01 * height, 0.01 * width)
        smooth = gaussian_filter(chance, sigma, mode="reflect", truncate=3)
        return np.asarray(smooth) * np.float32(strength)

    right, down = waves(), waves()
    places = np.stack([np.arange(height)[:, None] + down, np.arange(width) + right])
    picture = shades(image)
    channels = [
        map_coordinates(picture[..., channel], places, order=1, mode="reflect")
        for channel in range(3)
    ]
    return np.stack(channels, axis=2)


def pixelate(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Keep a share of the pixels of each side, and show them as blocks."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    picture = Image.fromarray(image)
    coarse = (int(picture.width * share), int(picture.height * share))
    small = picture.resize(coarse, Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.NEAREST))


def jpeg_compression(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Write and read a JPEG of low quality."""
    return as_jpeg(image, (25, 18, 15, 10, 7)[severity - 1])


def as_jpeg(image: Pixels, quality: int) -> Pixels:
    """Write and read a JPEG; quality: that of libjpeg, 1 to 95."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
