"""Labelled photos on disk that a small encoder tells apart, most of the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"apple": (200, 60, 60), "leaf": (60, 170, 70), "sea": (60, 80, 190)}


def make_photo(label: str, rng: np.random.Generator, *, spread: float = 45.0) -> Image.Image:
    """One colour a class, another shade in each quarter, and a texture of its own (for the hash).

    spread: standard deviation of the shades; 0 makes the classes easy.
    """
    shades = np.array(COLOURS[label]) + rng.normal(0, spread, (2, 2, 3))
    texture = rng.integers(-60, 60, (8, 8, 1))
    pixels = np.clip(shades.repeat(4, axis=0).repeat(4, axis=1) + texture, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).resize((48, 48), Image.Resampling.NEAREST)


def make_photos(
    root: Path, images: int | dict[str, int] = 24, *, seed: int = 0, spread: float = 45.0
) -> Path:
    """Write a folder per class with so many photos each, and return the root."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(COLOURS, images) if isinstance(images, int) else images
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            make_photo(label, rng, spread=spread).save(root / label / f"{label}{number:03}.png")
    return root
