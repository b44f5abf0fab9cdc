"""Which part of a picture an answer hangs on: cover a patch, see how far the answer falls.

Occlusion (Zeiler and Fergus 2014, section 4.2) asks the model as a black box, so it serves any
encoder with any head. It draws nothing; overlays are made in `report/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder, ImageVectors
from miniclip.preprocess import ImageSpec, preprocess

_BATCH = 16


def occlusion_map(
    encoder: Encoder,
    image: Image.Image,
    score: Callable[[ImageVectors], FloatArray],
    *,
    cells: int = 6,
) -> FloatArray:
    """Return how much of the score each patch of the picture carries: (cells, cells) float32.

    score: takes vectors of B pictures and returns (B,) numbers, such as the logit of one class.
    A cell is the score of the whole picture minus the score with a patch around that cell, half as
    wide again, replaced by the picture's mean colour. Positive: the patch speaks for the answer.
    """
    pictures = list(_pictures(image, encoder.image_spec, cells))
    scores = np.concatenate(
        [
            np.asarray(score(encoder.encode_pixels(np.stack(pictures[start : start + _BATCH]))))
            for start in range(0, len(pictures), _BATCH)
        ]
    )
    drops: FloatArray = (scores[0] - scores[1:]).reshape(cells, cells).astype(np.float32)
    return drops


def _pictures(image: Image.Image, spec: ImageSpec, cells: int) -> Iterator[FloatArray]:
    """Yield the pixels of the whole picture, then of each cell covered, row by row."""
    whole = preprocess(image, spec)
    yield whole
    if spec.patch is None:
        shown, as_pixels = whole.transpose(1, 2, 0), _channels_first
    else:  # a place in the canvas is no place in the picture, so cover the picture itself
        shown, as_pixels = np.asarray(image, dtype=np.float32), partial(_from_colours, spec=spec)
    mean = shown.mean(axis=(0, 1))
    for row, column in np.ndindex(cells, cells):
        covered = shown.copy()
        covered[_span(row, cells, len(shown)), _span(column, cells, shown.shape[1])] = mean
        yield as_pixels(covered)


def _channels_first(shown: FloatArray) -> FloatArray:
    return np.ascontiguousarray(shown.transpose(2, 0, 1))


def _from_colours(shown: FloatArray, spec: ImageSpec) -> FloatArray:
    return preprocess(Image.fromarray(shown.round().astype(np.uint8)), spec)


def _span(cell: int, cells: int, side: int) -> slice:
    width = side / cells
    return slice(max(0, round((cell - 0.25) * width)), round((cell + 1.25) * width))
