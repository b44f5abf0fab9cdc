"""A picture that is asked about: hide parts of it, and see what a score becomes.

Every method of this package is a choice of what to hide; the hiding itself is here, once, for any
encoder and any score. A model is only ever asked, in batches; nothing looks inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder, ImageVectors
from miniclip.preprocess import ImageSpec, preprocess

Score = Callable[[ImageVectors], NDArray[Any]]
"""From the vectors of B pictures to (B,) numbers, such as cosines or the log-odds of a class."""

Box = tuple[float, float, float, float]

Check = Callable[[], object]
"""Called before each step of long work; what it raises ends the work."""

_BATCH = 16
_LARGEST = 4  # sides of the model; a larger picture is shrunk before parts of it are hidden


class Subject:
    """One picture before one encoder, under one score.

    Places are places of what the model sees: its top left corner is (0, 0), whatever its shape.
    asked: how many pictures the encoder has been shown so far.
    """

    def __init__(
        self,
        encoder: Encoder,
        image: Image.Image,
        score: Score,
        *,
        check: Check = lambda: None,
    ) -> None:
        """image: RGB, as `images.decode` gives it. check: before each batch."""
        self.encoder, self.image, self.score = encoder, image, score
        self._check = check
        self.asked = 0
        spec = encoder.image_spec
        if spec.patch is None:
            self._shown = preprocess(image, spec).transpose(1, 2, 0)
        else:  # a place in the canvas is no place in the picture, so hide parts of the picture
            small = image.reduce(max(1, max(image.size) // (_LARGEST * spec.side)))
            self._shown = np.asarray(small, dtype=np.float32)
        self._blank = self._shown.mean(axis=(0, 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of pixels in which parts can be hidden."""
        rows, columns = self._shown.shape[:2]
        return rows, columns

    def whole(self) -> float:
        """Return the score of the whole picture."""
        return float(self.scores([np.ones((1, 1), dtype=np.float32)])[0])

    def scores(self, masks: Iterable[NDArray[Any]], *, smooth: bool = False) -> NDArray[np.float64]:
        """Return the scores of the picture under M masks: (M,) float64.

        masks: (G, H) numbers from 0, hidden, to 1, shown; stretched over the picture, in steps or
        `smooth`. What is hidden shows the mean colour of the picture; between 0 and 1 they mix.
        """
        pictures = (self._pixels(self._mixed(mask, smooth)) for mask in masks)
        found = [np.empty(0)]
        for batch in _batches(pictures, _BATCH):
            self._check()
            vectors = self.encoder.encode_pixels(np.stack(batch))
            found.append(np.asarray(self.score(vectors), dtype=np.float64))
            self.asked += len(batch)
        return np.concatenate(found)

    def _mixed(self, mask: NDArray[Any], smooth: bool) -> FloatArray:
        shown = _stretched(mask, self.shape, smooth)[..., None]
        mixed: FloatArray = shown * self._shown + (1 - shown) * self._blank
        return mixed

    def _pixels(self, shown: FloatArray) -> FloatArray:
        spec = self.encoder.image_spec
        if spec.patch is None:
            return np.ascontiguousarray(shown.transpose(2, 0, 1))
        return preprocess(Image.fromarray(shown.round().astype(np.uint8)), spec)


def seen_box(size: tuple[int, int], spec: ImageSpec) -> Box:
    """Return the part of a picture of (width, height) that a model sees, as shares of its sides.

    left, top, right, bottom, as in `views.View`: the whole picture but for what `preprocess` cuts.
    """
    width, height = size
    if spec.resize == "patches":
        return (0.0, 0.0, 1.0, 1.0)
    if spec.resize == "squash":
        across = down = spec.side / spec.resize_side
    else:
        across, down = (
            spec.side / (spec.resize_side * length / min(size)) for length in (width, height)
        )
    left, top = (1 - across) / 2, (1 - down) / 2
    return (left, top, left + across, top + down)


def _stretched(mask: NDArray[Any], shape: tuple[int, int], smooth: bool) -> FloatArray:
    values = np.asarray(mask, dtype=np.float32)
    if values.shape == shape:
        return values
    kernel = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values).resize(shape[::-1], kernel))


def _batches(pictures: Iterator[FloatArray], size: int) -> Iterator[list[FloatArray]]:
    while batch := list(islice(pictures, size)):
        yield batch
