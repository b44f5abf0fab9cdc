"""Which part of a picture an answer hangs on: cover a patch, see how far the answer falls.

Occlusion (Zeiler and Fergus 2014, section 4.2) asks the model as a black box, so it serves any
encoder with any head. It draws nothing; overlays are made in `report/`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder, ImageVectors
from miniclip.preprocess import preprocess

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
    pixels = preprocess(image, encoder.image_spec)
    side = pixels.shape[-1]
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    pictures = [pixels]
    for row in range(cells):
        for column in range(cells):
            covered = pixels.copy()
            covered[:, _span(row, cells, side), _span(column, cells, side)] = mean
            pictures.append(covered)
    scores = np.concatenate(
        [
            np.asarray(score(encoder.encode_pixels(np.stack(pictures[start : start + _BATCH]))))
            for start in range(0, len(pictures), _BATCH)
        ]
    )
    drops: FloatArray = (scores[0] - scores[1:]).reshape(cells, cells).astype(np.float32)
    return drops


def _span(cell: int, cells: int, side: int) -> slice:
    width = side / cells
    return slice(max(0, round((cell - 0.25) * width)), round((cell + 1.25) * width))
