"""What a batch of images looks like to the learning part: cached rows, or pixels made on line.

Both kinds answer the same two questions, so that nobody else has to know which it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.embed import Skipped
from miniclip.errors import ImageError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.train.data.augment import random_view
from miniclip.train.data.feature_cache import FeatureCache
from miniclip.train.recipe import Views

_log = logging.getLogger(__name__)


class Rows(NamedTuple):
    """Rows (K, ...) of the images that could be read; kept: (K,) their places in what was asked."""

    rows: NDArray[Any]
    kept: IntArray


class ImageRows(Protocol):
    """Rows that `TwoTower.image_features` takes, or pixels that `TwoTower.trunk` takes."""

    usable: IntArray
    skipped: tuple[Skipped, ...]

    def plain(self, images: IntArray) -> Rows:
        """Return the images as they are; images: (B,)."""

    def viewed(self, images: IntArray, views: IntArray, step: int) -> Rows:
        """Return views for training, always the same for the same step; images, views: (B,)."""


class CachedRows:
    """Rows out of a feature cache: (B, ...) float16."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self.usable = cache.usable
        self.skipped = cache.skipped

    def plain(self, images: IntArray) -> Rows:
        """See `ImageRows`."""
        return self.viewed(images, np.zeros_like(images), 0)

    def viewed(self, images: IntArray, views: IntArray, step: int) -> Rows:
        """See `ImageRows`; the views are those of the cache."""
        del step
        return Rows(self._cache.rows(images, views), np.arange(len(images)))


class PixelRows:
    """Pixels (B, 3, S, S) float32, decoded and augmented when asked for.

    An image that cannot be read is logged and left out of its batch.
    """

    def __init__(
        self, sources: Sequence[ImageSource], spec: ImageSpec, views: Views, seed: int
    ) -> None:
        self._sources = sources
        self._spec = spec
        self._views = views
        self._seed = seed
        self.usable = np.arange(len(sources), dtype=np.int64)
        self.skipped: tuple[Skipped, ...] = ()

    def plain(self, images: IntArray) -> Rows:
        """See `ImageRows`."""
        return self._rows(images, None)

    def viewed(self, images: IntArray, views: IntArray, step: int) -> Rows:
        """See `ImageRows`; a new random view at every step, unless views.count is 1."""
        del views
        return self._rows(images, step if self._views.count > 1 else None)

    def _rows(self, images: IntArray, step: int | None) -> Rows:
        pixels, kept = [], []
        for place, image in enumerate(images):
            source = self._sources[image]
            try:
                picture = decode(source, at_least=self._spec.enough())
            except ImageError as error:
                _log.warning("left out of the batch: %s", error)
                continue
            if step is not None:
                draws = np.random.default_rng((self._seed, step, int(image)))
                picture = random_view(picture, self._views, draws)
            pixels.append(preprocess(picture, self._spec))
            kept.append(place)
        shape = (0, 3, self._spec.side, self._spec.side)
        rows = np.stack(pixels) if pixels else np.empty(shape, dtype=np.float32)
        return Rows(rows, np.array(kept, dtype=np.int64))
