"""What the corruptions share: pictures as shares of white, their scale, and how levels are cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB
Shades = NDArray[np.float32]  # (H, W, 3), 0 black, 1 white; may lie beyond either

REFERENCE_SIDE = 224  # pixels: the pictures of ImageNet-C


def shades(image: Pixels) -> Shades:
    """Levels to shares of white."""
    return image.astype(np.float32) / np.float32(255)


def to_pixels(picture: Shades | Pixels) -> Pixels:
    """Shares of white to levels: clipped, and rounded down as in ImageNet-C."""
    if picture.dtype == np.uint8:
        return np.asarray(picture, dtype=np.uint8)
    # 1e-3 of a level: float32 may put 128 at 127.99999.
    return (picture.clip(0, 1) * np.float32(255) + np.float32(1e-3)).astype(np.uint8)


def scale_of(image: Pixels) -> float:
    """How many pixels of this picture make one of ImageNet-C."""
    height, width, _ = image.shape
    return float(min(height, width)) / REFERENCE_SIDE
