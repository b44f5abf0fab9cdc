"""A map laid over its picture, with a colour bar and what it is worth; drawn by Pillow alone.

Red speaks for the answer, blue against it. Colour grows with the share of the largest value, so two
pictures cannot be compared by their colours, only by the numbers at their bars.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from miniclip.arrays import FloatArray
from miniclip.atomic import replacing
from miniclip.explain.explanation import Explanation
from miniclip.explain.subject import Box

View = Literal["smooth", "patches"]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_HEAT = np.array((216, 60, 40), dtype=np.float32)  # RGB of what speaks for the answer
_COLD = np.array((40, 90, 200), dtype=np.float32)  # and of what speaks against it
_STRENGTH = 0.7
_KERNELS = {"smooth": Image.Resampling.BICUBIC, "patches": Image.Resampling.NEAREST}
_SIDE = 768  # pixels of the longer side of the picture on its sheet
_PAPER, _INK, _ALARM = (255, 255, 255), (40, 40, 44), (168, 65, 43)
_TEXT, _GAP, _BAR = 16, 12, 18  # pixels


def blended(
    image: Image.Image,
    drops: FloatArray,
    *,
    box: Box = WHOLE,
    view: View = "smooth",
    side: int = _SIDE,
) -> Image.Image:
    """Colour a grey copy of a picture, its longer side `side` pixels.

    drops: (G, H) float32, stretched over `box`, the part of the picture that the model saw. The
    rest is pale.
    """
    picture = _scaled(image, side).convert("L")
    left, top, right, bottom = _pixels_of(box, picture.size)
    largest = max(float(np.abs(drops).max()), 1e-9)
    weights = Image.fromarray((drops / largest).astype(np.float32))
    shares = np.clip(
        np.asarray(weights.resize((right - left, bottom - top), _KERNELS[view])), -1, 1
    )
    grey = np.repeat(np.asarray(picture, dtype=np.float32)[..., None], 3, axis=2)
    sheet = (grey + 255) / 2
    sheet[top:bottom, left:right] = _coloured(grey[top:bottom, left:right], shares)
    return Image.fromarray(sheet.round().astype(np.uint8))


def map_sheet(image: Image.Image, found: Explanation, *, view: View = "smooth") -> Image.Image:
    """Draw a map over its picture, the colour bar beside it and the verdict below it."""
    picture = blended(image, found.drops, box=found.box, view=view)
    font = ImageFont.load_default(_TEXT)
    largest = float(np.abs(found.drops).max())
    ticks = {0.0: f"{largest:+.2g}", 0.5: "0", 1.0: f"{-largest:+.2g}"}
    wide = max(int(font.getlength(text)) for text in ticks.values())
    credible = found.credibility.verdict == "better than chance"
    label = f"{found.credibility.verdict} (p = {found.credibility.p:.2f})"
    width = max(picture.width + 3 * _GAP + _BAR + wide, int(font.getlength(label)) + 2 * _GAP)
    sheet = Image.new("RGB", (width, picture.height + _TEXT + 3 * _GAP), _PAPER)
    sheet.paste(picture, (0, 0))
    bar_left = picture.width + _GAP
    sheet.paste(_bar(picture.height - 2 * _GAP), (bar_left, _GAP))
    pen = ImageDraw.Draw(sheet)
    for place, text in ticks.items():
        down = _GAP + place * (picture.height - 2 * _GAP - 1)
        pen.text((bar_left + _BAR + _GAP // 2, down), text, _INK, font, anchor="lm")
    below = picture.height + _GAP
    pen.text((_GAP, below), label, _INK if credible else _ALARM, font)
    return sheet


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Write a PNG whole or not at all; StoreError if it fails."""
    with replacing(path) as stream:
        sheet.save(stream, "PNG")


def _coloured(grey: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix (H, W, 3) grey with red or blue as far as (H, W) shares in -1..1 say."""
    colour = np.where(shares[..., None] > 0, _HEAT, _COLD)
    strength = _STRENGTH * np.abs(shares[..., None])
    return np.asarray(grey * (1 - strength) + colour * strength, dtype=np.float32)


def _bar(height: int) -> Image.Image:
    shares = np.linspace(1, -1, height, dtype=np.float32)[:, None].repeat(_BAR, axis=1)
    grey = np.full((height, _BAR, 3), 160, dtype=np.float32)
    return Image.fromarray(_coloured(grey, shares).round().astype(np.uint8))


def _scaled(image: Image.Image, side: int) -> Image.Image:
    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _pixels_of(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels, at least one of them each way."""
    left, top = (min(int(box[axis] * size[axis]), size[axis] - 1) for axis in (0, 1))
    right, bottom = (
        max(round(box[axis + 2] * size[axis]), start + 1) for axis, start in ((0, left), (1, top))
    )
    return left, top, right, bottom
