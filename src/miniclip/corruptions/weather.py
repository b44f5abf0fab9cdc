"""Snow, frost and fog (ImageNet-C).

Frost in the reference is five photographs that are not ours to ship. Here it is drawn: ridges of
fractal noise, in the colours and contrasts that those photographs have on average.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import fftconvolve

from miniclip.corruptions.blur import line_kernel, zoomed
from miniclip.corruptions.pixels import Pixels, Shades, scale_of, shades

Field = NDArray[np.float32]  # (H, W)

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601
_FOG_SIDE = 256
_FROST_SIDE = 512  # pixels of a drawn window, of which pictures see a part
# Of each window: mean R, G, B in levels; how far each channel follows the ice; log10 of the power
# of the ice at the frequencies below, in levels squared per cycle; how unevenly the ice lies.
_FREQUENCIES = (0.003, 0.011, 0.022, 0.044, 0.088, 0.177, 0.354)  # cycles per pixel
_DARK = ((78, 149, 166), (1.4, 0.83, 0.79), (6.2, 4.6, 3.7, 3.0, 2.6, 2.4, 1.55), 0.2)
_WHITE = ((198, 203, 212), (1.0, 1.0, 1.0), (6.0, 4.5, 4.1, 3.8, 3.2, 2.7, 1.6), 0.2)
_GREY = ((142, 157, 169), (1.0, 1.0, 1.0), (6.0, 4.4, 4.2, 3.9, 3.5, 3.1, 1.9), 0.75)
_DEEP = ((104, 115, 127), (1.0, 1.0, 1.0), (6.4, 5.2, 4.9, 4.3, 3.7, 3.1, 2.1), 0.5)
_WINDOWS = (_DARK, _WHITE, _WHITE, _GREY, _DEEP)


def snow(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Flakes driven by the wind before a whitened picture."""
    level, spread, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    scale = scale_of(image)
    chance = rng.normal(level, spread, size=image.shape[:2]).astype(np.float32)
    flakes = np.array(zoomed(Image.fromarray(chance), max(zoom * scale, 1.0)))
    flakes[flakes < threshold] = 0
    kernel = line_kernel(radius, sigma, rng.uniform(-135, -45), scale)
    reach = len(kernel) // 2
    padded = np.pad(flakes.clip(0, 1), reach, mode="edge")
    flakes = np.round(fftconvolve(padded, kernel, mode="valid").clip(0, 1) * 255) / np.float32(255)
    picture = shades(image)
    whiter = np.maximum(picture, (picture @ _LUMA)[..., None] * np.float32(1.5) + np.float32(0.5))
    picture = kept * picture + (1 - kept) * whiter
    return np.asarray(picture + (flakes + np.rot90(flakes, 2))[..., None])


def frost(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Put a frozen window before the picture."""
    kept, ice = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    window = _window(int(rng.integers(len(_WINDOWS))))
    scale = scale_of(image)
    height, width = (min(_FROST_SIDE, max(1, round(n / scale))) for n in image.shape[:2])
    top = int(rng.integers(_FROST_SIDE - height + 1))
    left = int(rng.integers(_FROST_SIDE - width + 1))
    part = Image.fromarray(window[top : top + height, left : left + width])
    if part.size != image.shape[1::-1]:
        part = part.resize(image.shape[1::-1], Image.Resampling.BICUBIC)
    return np.float32(kept) * shades(image) + np.float32(ice) * shades(np.asarray(part))


def fog(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Add a plasma cloud, and bring the whole back to the brightness of the picture."""
    strength, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    picture = shades(image)
    height, width = (round(n / scale_of(image)) for n in image.shape[:2])
    side = max(_FOG_SIDE, 1 << (max(height, width) - 1).bit_length())
    cloud = plasma(side, decay, rng)[:height, :width]
    if cloud.shape != image.shape[:2]:
        size = image.shape[1::-1]
        cloud = np.asarray(Image.fromarray(cloud).resize(size, Image.Resampling.BILINEAR))
    brightest = picture.max()
    dim = brightest / (brightest + strength)
    return np.asarray((picture + strength * cloud[..., None]) * dim)


def plasma(side: int, decay: float, rng: np.random.Generator) -> Field:
    """Draw a cloud by diamonds and squares (Fournier, Fussell and Carpenter 1982), on a torus.

    side: a power of two. decay: by which the square root of the amplitude falls from one octave to
    the next. Returns (side, side) from 0 to 1.
    """
    field = np.zeros((side, side), dtype=np.float32)
    step, amplitude = side, 100.0

    def near(neighbours: Field) -> Field:
        chance = rng.random(neighbours.shape, np.float32) * 2 - 1
        return neighbours / 4 + np.float32(amplitude**2) * chance

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        right, below = (
            corners + np.roll(corners, -1, axis=1),
            corners + np.roll(corners, -1, axis=0),
        )
        centres = near(below + np.roll(below, -1, axis=1))
        field[half::step, half::step] = centres
        field[::step, half::step] = near(centres + np.roll(centres, 1, axis=0) + right)
        field[half::step, ::step] = near(centres + np.roll(centres, 1, axis=1) + below)
        step, amplitude = half, amplitude / decay
    field -= field.min()
    return np.asarray(field / field.max())


@lru_cache(maxsize=len(_WINDOWS))
def _window(number: int) -> Pixels:
    """Draw a frozen window, always the same for one number: (512, 512, 3)."""
    mean, follows, log_power, uneven = _WINDOWS[number]
    rng = np.random.default_rng(number)
    across, down = np.fft.rfftfreq(_FROST_SIDE), np.fft.fftfreq(_FROST_SIDE)
    frequency = np.maximum(np.hypot(down[:, None], across), _FREQUENCIES[0])
    power = 10 ** np.interp(np.log(frequency), np.log(_FREQUENCIES), log_power)
    power[0, 0] = 0
    clouds = [
        np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_FROST_SIDE, _FROST_SIDE))) / frequency)
        for _ in range(3)
    ]
    # Sharp where a cloud crosses zero, as crystals are; their phases with the power of ice.
    ridges = np.fft.rfft2(-np.abs(clouds[0]) - np.abs(clouds[1]))
    ice = np.fft.irfft2(np.exp(1j * np.angle(ridges)) * np.sqrt(power) * _FROST_SIDE)
    thickness = np.exp(uneven * clouds[2] / clouds[2].std())
    ice *= thickness / np.sqrt(np.square(thickness).mean())
    window = np.array(mean) + ice[..., None] * np.array(follows)
    return np.asarray(window.clip(0, 255), dtype=np.uint8)
