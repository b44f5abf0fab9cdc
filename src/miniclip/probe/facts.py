"""What is known about an image without a model: its file, its edges and a perceptual hash.

Everything that looks at pixels works on a thumbnail of 64 x 64, so that facts cost a millisecond
and do not depend on how large a JPEG was decoded. Nothing is judged here: see `duplicates.py` and
`shortcuts.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from miniclip.images import ImageSource, decode, read_header

FACTS_VERSION = 1  # counts up when the same image would get other facts: it is the cache key
THUMBNAIL = 64  # pixels a side
_BORDER = 4  # pixels of the thumbnail: a sixteenth of the picture
_CORNER = 12
_HASH_SIDE = 8
# XOR one of these to a hash: that of the picture mirrored, upside down, or both. A reflection turns
# the sign of every odd frequency along its axis, and the median of the rest is nearly 0.
_MIRRORED, _UPSIDE_DOWN = 0xAAAAAAAAAAAAAAAA, 0xFF00FF00FF00FF00
MIRROR_MASKS = (_MIRRORED, _UPSIDE_DOWN, _MIRRORED ^ _UPSIDE_DOWN)


@dataclass(frozen=True)
class ImageFacts:
    """What can be told of one image without understanding it.

    width, height: in pixels, as stored. mode, file_format: as Pillow names them, such as "L" and
    "JPEG". bytes: of the file. jpeg_tables: hex digest of the quantisation tables, "" for other
    formats; it tells one encoder and quality from another. perceptual_hash: 64 bits, few of which
    change when a picture is resized, compressed or brightened. border: 12 numbers from 0 to 1, the
    mean and deviation of red, green and blue along the edge, then those of the four corners.
    """

    width: int
    height: int
    mode: str
    file_format: str
    bytes: int
    jpeg_tables: str
    perceptual_hash: int
    border: tuple[float, ...]

    def to_json(self) -> str:
        """Return one line of JSON, for the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ImageFacts:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"border": tuple(values["border"])})


def read_facts(source: ImageSource) -> ImageFacts:
    """Decode an image, as small as its format allows, for its facts; ImageError as `decode`."""
    return facts_of(source, decode(source, at_least=4 * THUMBNAIL))


def facts_of(source: ImageSource, image: Image.Image) -> ImageFacts:
    """Return the facts of an image that is decoded already, to RGB, at any scale."""
    header = read_header(source)
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return ImageFacts(
        width=header.width,
        height=header.height,
        mode=header.mode,
        file_format=header.file_format,
        bytes=header.bytes,
        jpeg_tables=header.jpeg_tables,
        perceptual_hash=perceptual_hash(small),
        border=_edges(np.asarray(small, dtype=np.float64) / 255),
    )


def perceptual_hash(image: Image.Image) -> int:
    """Return 64 bits: which of the lowest frequencies of the picture are above their median.

    The "pHash" of Zauner (2010), section 3.2.1: the 8 x 8 lowest coefficients of the cosine
    transform of the grey picture, 32 x 32, without the row and column of the constant.
    """
    grey = image.convert("L").resize((32, 32), Image.Resampling.BOX)
    low = dctn(np.asarray(grey, dtype=np.float64))[1 : _HASH_SIDE + 1, 1 : _HASH_SIDE + 1]
    bits = np.packbits((low > np.median(low)).ravel())
    return int.from_bytes(bits.tobytes(), "big")


def _edges(pixels: NDArray[np.float64]) -> tuple[float, ...]:
    """Mean and deviation per channel of the edge, then of the corners; pixels (64, 64, 3)."""
    edge = np.ones(pixels.shape[:2], dtype=bool)
    edge[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    corners = np.ones(pixels.shape[:2], dtype=bool)
    corners[_CORNER:-_CORNER] = False
    corners[:, _CORNER:-_CORNER] = False
    parts = [pixels[part] for part in (edge, corners)]
    values = np.concatenate([row for part in parts for row in (part.mean(0), part.std(0))])
    return tuple(round(value, 5) for value in values.tolist())
