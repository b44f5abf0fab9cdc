"""Noise of each pixel by itself: of the amplifier, of light, of broken pixels (ImageNet-C)."""

from __future__ import annotations

import numpy as np

from miniclip.corruptions.pixels import Pixels, Shades, shades


def gaussian_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Add normal noise, as of weak light."""
    spread = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return shades(image) + np.float32(spread) * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Poisson noise: white is as few photons as this."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return (rng.poisson(shades(image) * photons) / photons).astype(np.float32)


def impulse_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Shades:
    """Salt and pepper: values that are lost, half of them white and half black."""
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    lot = rng.random(image.shape, np.float32)
    picture = shades(image)
    picture[lot < amount] = 1
    picture[lot < amount / 2] = 0
    return picture
