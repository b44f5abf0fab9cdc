"""Occlusion: cover a patch, see how far the score falls (Zeiler and Fergus 2014, section 4.2).

`both_map` also shows each patch alone: where two parts of a picture say the same, covering one of
them costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.explain.subject import Score, Subject

PATCH = 4  # cells of a side


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


def both_map(subject: Subject, *, cells: int, patch: int = PATCH) -> FloatArray:
    """Return (cells, cells) float32: what a place takes away, plus what it gives alone.

    Each patch is covered once, and once shown alone before the mean colour: the score that the
    picture loses by the one, and gains over nothing by the other, goes to its cells; a cell has the
    mean of the patches over it. These are the last and the first step on the way from nothing to
    the whole picture, the two that Shapley's mean over all orders weighs most.

    patch: cells of a side; patches overlap by half.
    """
    patches = np.stack(list(_patches(cells, patch)))
    whole = subject.whole()
    lost = whole - subject.scores(1 - patches)
    (nothing,) = subject.scores([np.zeros((1, 1))])
    gained = subject.scores(patches) - nothing
    carried = np.tensordot(lost + gained, patches, axes=1)
    return np.asarray(carried / patches.sum(axis=0), dtype=np.float32)


def _patches(cells: int, patch: int) -> Iterator[FloatArray]:
    starts = range(0, cells - patch + 1, patch // 2)
    for top, left in product(starts, starts):
        mask = np.zeros((cells, cells), dtype=np.float32)
        mask[top : top + patch, left : left + patch] = 1
        yield mask
