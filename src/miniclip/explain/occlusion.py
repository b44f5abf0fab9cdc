"""Occlusion: cover a patch, see how far the score falls (Zeiler and Fergus 2014, section 4.2).

`occlusion_map` has one size of patch and is cheap. `scales_map` covers patches of several sizes,
and shows each alone as well: what a picture loses without a patch and what it gains by it differ
wherever two parts say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.explain.subject import Score, Subject


def occlusion_map(
    encoder: Encoder, image: Image.Image, score: Score, *, cells: int = 6
) -> FloatArray:
    """Return how much of the score each patch of the picture carries: (cells, cells) float32.

    A cell is the score of the whole picture minus the score with a patch around that cell, half as
    wide again, replaced by the picture's mean colour. Positive: the patch speaks for the answer.
    """
    return patch_map(Subject(encoder, image, score), cells=cells)


def patch_map(subject: Subject, *, cells: int) -> FloatArray:
    """As `occlusion_map`, of a subject."""
    scores = subject.scores(_masks(subject.shape, cells))
    drops: FloatArray = (scores[0] - scores[1:]).reshape(cells, cells).astype(np.float32)
    return drops


def _masks(shape: tuple[int, int], cells: int) -> Iterator[FloatArray]:
    """Yield the mask of the whole picture, then one for each cell covered, row by row."""
    yield np.ones(shape, dtype=np.float32)
    for row, column in np.ndindex(cells, cells):
        mask = np.ones(shape, dtype=np.float32)
        mask[_span(row, cells, shape[0]), _span(column, cells, shape[1])] = 0
        yield mask


def _span(cell: int, cells: int, side: int) -> slice:
    width = side / cells
    return slice(max(0, round((cell - 0.25) * width)), round((cell + 1.25) * width))
