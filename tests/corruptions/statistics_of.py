"""Numbers that tell how a picture was corrupted, and the free photos that they are taken of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 224
_PHOTOS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/astronaut.png"),
)
_LUMA = np.array((0.299, 0.587, 0.114))
_BANDS = (0.0, 1 / 32, 1 / 8, 1 / 4, 0.71)  # cycles per pixel

Pixels = NDArray[np.uint8]


def photos() -> Iterator[Pixels]:
    """Yield three photos of 224 x 224."""
    for package, place in _PHOTOS:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        with Image.open(Path(spec.origin).parent / place) as photo:
            square = photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        yield np.asarray(square)


def statistics_of(corrupted: Pixels, clean: Pixels) -> dict[str, float]:
    """Measure a corrupted picture against the clean one; levels run from 0 to 255."""
    new, old = corrupted.astype(float), clean.astype(float)
    grey, before = new @ _LUMA, old @ _LUMA
    slope = float(((grey - grey.mean()) * (before - before.mean())).mean() / before.var())
    rest = grey - grey.mean() - slope * (before - before.mean())
    detail = _detail(grey, before)
    added = grey - detail * before
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / grey.size
    bands = _bands()
    return {
        **dict(zip(("red", "green", "blue"), new.mean(axis=(0, 1)).tolist(), strict=True)),
        "std": float(new.std()),
        "difference": float(np.abs(new - old).mean()),
        "slope": slope,
        "rest": float(rest.std()),
        "detail": detail,
        "rough": float(
            np.log10(np.mean([np.square(np.diff(added, axis=a)).mean() for a in (0, 1)]) + 1e-3)
        ),
        "ssim": structural_similarity(grey, before),
        **{
            f"power {band}": float(np.log10(power[bands == band].mean() + 1e-3))
            for band in range(1, len(_BANDS))
        },
    }


@cache
def _bands() -> NDArray[np.int64]:
    """Give each frequency of a picture the number of its band, from 1."""
    frequency = np.fft.fftfreq(SIDE)
    bands: NDArray[np.int64] = np.digitize(np.hypot(frequency, frequency[:, None]), _BANDS)
    return bands


def _detail(new: NDArray[np.float64], old: NDArray[np.float64]) -> float:
    """How much of each step from pixel to pixel is left: the slope of new steps on old ones."""
    steps = [(np.diff(new, axis=axis).ravel(), np.diff(old, axis=axis).ravel()) for axis in (0, 1)]
    return float(sum(a @ b for a, b in steps) / sum(b @ b for _, b in steps))


def structural_similarity(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean SSIM of two grey pictures (Wang et al. 2004, equation 13; Gaussian of 1.5 pixels)."""

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values, 1.5, truncate=3.5))

    mean, mean_other = blurred(one), blurred(other)
    variance = blurred(one * one) - mean**2
    variance_other = blurred(other * other) - mean_other**2
    covariance = blurred(one * other) - mean * mean_other
    small, larger = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(
        (
            (2 * mean * mean_other + small)
            * (2 * covariance + larger)
            / ((mean**2 + mean_other**2 + small) * (variance + variance_other + larger))
        ).mean()
    )
