"""Blur of a lens out of focus, of frosted glass, of a moving camera, of a zoom (ImageNet-C).

The parameters and borders are those of the reference; convolutions go through the Fourier
transform, and zooming through Pillow, since a run asks for tens of thousands of them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from miniclip.corruptions.pixels import Pixels, Shades, scale_of, shades, to_pixels


def defocus_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:  # noqa: ARG001
    """Spread each point over a disk."""
    radius, softness = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    scale = scale_of(image)
    return _convolve(shades(image), _disk(radius * scale, softness, 8 * scale), "reflect")


def glass_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Scatter pixels between two slight blurs.

    The reference means to swap each pixel with one nearby; since it swaps views of one array, it
    copies the one nearby. So do we: the published figures are of that.
    """
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[
        severity - 1
    ]
    scale = scale_of(image)
    reach = max(1, round(reach * scale))
    spread = (sigma * scale, sigma * scale, 0)
    soft = to_pixels(gaussian_filter(shades(image), spread, mode="nearest"))
    height, width = soft.shape[:2]
    rows = np.arange(height - reach, reach, -1)[:, None]
    columns = np.arange(width - reach, reach, -1)
    places = (rows * width + columns).ravel().tolist()
    source = list(range(height * width))
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, size=(2, len(rows), len(columns)))
        nearby = ((rows + down) * width + columns + right).ravel().tolist()
        # One after the other, for each may copy what was copied before; lists are fastest here.
        for place, other in zip(places, nearby, strict=True):
            source[place] = source[other]
    scattered = soft.reshape(-1, 3)[source].reshape(soft.shape)
    return np.asarray(gaussian_filter(shades(scattered), spread, mode="nearest"))


def motion_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Smear along a line, at up to 45 degrees from the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    kernel = line_kernel(radius, sigma, rng.uniform(-45, 45), scale_of(image))
    return _convolve(shades(image), kernel, "edge")


def zoom_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:  # noqa: ARG001
    """Mean of the picture and ever closer looks at its middle."""
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    zooms = np.arange(1, end, step)
    picture = Image.fromarray(image)
    total = image.astype(np.float32)
    for zoom in zooms.tolist():
        total += np.asarray(zoomed(picture, zoom))
    return total / np.float32(255 * (len(zooms) + 1))


def zoomed(picture: Image.Image, zoom: float) -> Image.Image:
    """Enlarge the middle of a picture to its full size, linearly.

    The corners of the part lie on the corners of the result, as `scipy.ndimage.zoom` has it, and
    what stands out at the right and below is cut off.
    """

    def ends(length: int) -> tuple[float, float]:
        part = math.ceil(length / zoom)
        step = (part - 1) / max(round(part * zoom) - 1, 1)
        start = (length - part) // 2 + 0.5 - step / 2
        return start, start + length * step

    (left, right), (top, bottom) = map(ends, picture.size)
    box = (left, top, right, bottom)
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


def line_kernel(
    radius: float, sigma: float, angle: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """Half a Gaussian along a line of 2 * radius + 1 points, from the middle outwards.

    angle: in degrees, 0 to the left. scale: of radius and sigma. Returns (K, K), K odd, sum 1.
    """
    points = np.arange(2 * round(radius * scale) + 1)
    weights = np.exp(-(points**2) / (2 * (sigma * scale) ** 2))
    down = -np.ceil(points * math.sin(math.radians(angle)) - 0.5).astype(int)
    right = -np.ceil(points * math.cos(math.radians(angle)) - 0.5).astype(int)
    reach = int(max(np.abs(down).max(), np.abs(right).max()))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    np.add.at(kernel, (reach + down, reach + right), weights / weights.sum())
    return kernel


@lru_cache(maxsize=32)
def _disk(radius: float, softness: float, reach: float) -> NDArray[np.float32]:
    """Draw a disk on a grid of at least `reach` pixels either way, its edge soft.

    Its sum is 1, or a little above where the disk touches the end of the grid, for there the
    Gaussian sees its mirror image: so the wide blurs of ImageNet-C make a picture 1 % brighter.
    """
    line = np.arange(-math.floor(max(radius, reach)), math.floor(max(radius, reach)) + 1)
    disk = (line**2 + line[:, None] ** 2 <= radius**2).astype(np.float32)
    taps = 1 if radius <= reach else 2
    return np.asarray(gaussian_filter(disk / disk.sum(), softness, radius=taps, mode="mirror"))


def _convolve(
    picture: Shades, kernel: NDArray[np.float32], border: Literal["reflect", "edge"]
) -> Shades:
    reach = len(kernel) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode=border)
    return np.asarray(fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)))
