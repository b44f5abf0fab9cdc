"""From any colour mode of Pillow to plain 8-bit RGB; it opens no file and resizes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WHITES = (1.0, 255.0, 4095.0, 65535.0)  # floats in 0..1; 8 bits; 12-bit cameras, scanners; 16 bits


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a plain RGB picture that shares nothing with the file it came from.

    Transparency is laid on white; deep grey is scaled, not cut (see `eight_bit`).
    """
    if image.mode.startswith("I") or image.mode == "F":
        return eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    return image.convert("RGB")  # a copy where it is RGB already: without the file and its tags


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale deep grey (modes I;16*, I and F) to mode L.

    Files seldom say how many of their bits they use, so black is 0 and white is the least of 255,
    4095, 65535, and for floats 1, that no pixel exceeds. Values beyond, or below 0, are spread from
    the smallest to the largest. NaN becomes black.
    """
    values = np.asarray(image)
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    whites = _WHITES if image.mode == "F" else _WHITES[1:]
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    return shade(values, low, high)


def shade(values: NDArray[Any], low: float, high: float) -> Image.Image:
    """Map `low` to black and `high` to white, linearly, the rest clipped.

    values: (height, width) of any real dtype. Returns a picture of mode L.
    """
    factor = np.float32(255 / (high - low) if high > low else 0)
    levels = (values.astype(np.float32) - np.float32(low)) * factor
    levels = np.nan_to_num(levels, copy=False, nan=0.0).clip(0, 255)
    return Image.fromarray(np.rint(levels).astype(np.uint8))
