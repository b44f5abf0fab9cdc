"""Pictures for the student: random views to train on, and the plain looks that judge it.

Threads decode and run the frozen half ahead of the training. What a view shows depends on the seed,
the epoch and the image alone, so a resumed training sees what an unbroken one sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miniclip.arrays import FloatArray, IntArray
from miniclip.cpus import usable_cpus
from miniclip.errors import DatasetError
from miniclip.home import cache_dir
from miniclip.images import ImageSource
from miniclip.train.data.feature_cache import Request, open_cache
from miniclip.train.data.image_rows import CachedRows, ImageRows, PixelRows, Rows
from miniclip.train.data.trunk_runner import TrunkRunner, trunk_digest
from miniclip.train.finetune.halves import FrozenHalf
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.finetune.source import Looks
from miniclip.train.recipe import Views

_AT_ONCE = 32  # plain images that pass the frozen half together


@dataclass(frozen=True)
class LabelledSources:
    """N images. train, validation: row numbers, (n,) and (m,).

    labels: (N,) int64 in 0..C-1. groups: (N,) int64, one number for images that belong together.
    """

    sources: Sequence[ImageSource]
    labels: IntArray
    groups: IntArray
    classes: tuple[str, ...]
    train: IntArray
    validation: IntArray

    def visits(self, per_group: int) -> int:
        """Return how many images an epoch visits: at most so many of each group, 0 for all."""
        sizes = np.unique(self.groups[self.train], return_counts=True)[1]
        return int(np.minimum(sizes, per_group or len(self.train)).sum())


class Batch(NamedTuple):
    """rows: (B, M) float16 or float32, what the frozen half gave; labels: (B,) int64."""

    rows: Tensor
    labels: Tensor


class Feed:
    """Batches of rows."""

    def __init__(
        self,
        images: LabelledSources,
        looks: Looks,
        frozen: FrozenHalf,
        settings: FinetuneSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._images = images
        self._looks = looks
        self._settings = settings
        self._seed = seed
        self._device = device
        self._threads = usable_cpus()
        self._spec = looks.tower.image_spec
        self._frozen = frozen
        side, threads = self._spec.side, max(1, self._threads // 2)
        self._run = TrunkRunner(frozen, side, device=device, threads=threads)
        self._through(
            np.zeros((1, 3, side, side), dtype=np.float32)
        )  # ready before threads share it
        self._pixels = PixelRows(images.sources, self._spec, self._views(2), seed)
        self._cached = self._cache() if settings.views else None

    def training(self, epoch: int) -> Iterator[Batch]:
        """Yield the training images of an epoch once, in an order and in views of its own."""
        rng = np.random.default_rng((self._seed, epoch))
        order = self._of_groups(rng.permutation(self._images.train))
        parts = np.array_split(order, max(1, -(-len(order) // self._settings.batch_size)))
        flips = [rng.random(len(part)) < 0.5 for part in parts]
        views = [rng.integers(max(1, self._settings.views), size=len(part)) for part in parts]
        waiting: deque[Future[Batch]] = deque()
        coming = iter(zip(parts, views, flips, strict=True))
        with ThreadPoolExecutor(self._threads, thread_name_prefix="miniclip-views") as pool:
            while True:
                while len(waiting) <= self._threads and (job := next(coming, None)) is not None:
                    waiting.append(pool.submit(self._batch, epoch, *job))
                if not waiting:
                    return
                batch = waiting.popleft().result()
                if len(batch.labels):
                    yield Batch(batch.rows.to(self._device), batch.labels.to(self._device))

    def plain(self, images: IntArray) -> tuple[list[NDArray[Any]], IntArray]:
        """Return the rows (m, M) of each look at the images as they are, and their labels (m,).

        float16. DatasetError when none can be read.
        """
        looks: list[list[NDArray[Any]]] = []
        kept: list[IntArray] = []
        parts = np.array_split(images, max(1, -(-len(images) // _AT_ONCE)))
        with ThreadPoolExecutor(self._threads) as pool:
            for part, found in zip(parts, pool.map(self._pixels.plain, parts), strict=True):
                seen = self._looks.looks(torch.from_numpy(found.rows))
                looks.append([self._through(look.numpy()).astype(np.float16) for look in seen])
                kept.append(part[found.kept])
        places = np.concatenate(kept)
        if not len(places):
            raise DatasetError(f"none of the {len(images)} validation images can be read")
        return [np.concatenate(look) for look in zip(*looks, strict=True)], self._images.labels[
            places
        ]

    def _of_groups(self, order: IntArray) -> IntArray:
        """Keep the first few of each group, in order."""
        if not self._settings.per_group:
            return order
        groups = self._images.groups[order]
        by_group = np.argsort(groups, kind="stable")
        _, starts, sizes = np.unique(groups[by_group], return_index=True, return_counts=True)
        place = np.arange(len(order)) - np.repeat(starts, sizes)  # of an image in its group
        return order[np.sort(by_group[place < self._settings.per_group])]

    def _batch(self, epoch: int, images: IntArray, views: IntArray, flips: NDArray[Any]) -> Batch:
        if self._cached:
            found = self._cached.viewed(images, views, epoch)
        else:
            found = self._fresh(epoch, images, flips)
        labels = self._images.labels[images[found.kept]]
        return Batch(torch.from_numpy(found.rows), torch.from_numpy(labels))

    def _fresh(self, epoch: int, images: IntArray, flips: NDArray[Any]) -> Rows:
        pixels, kept = self._pixels.viewed(images, images, epoch)
        if self._settings.upside_down:
            turned = flips[kept]
            pixels[turned] = pixels[turned, :, ::-1]
        return Rows(self._through(pixels), kept)

    def _through(self, pixels: FloatArray) -> NDArray[Any]:
        """Run the frozen half on pixels (B, 3, S, S), if there is one."""
        if len(self._frozen.parts) and len(pixels):
            return self._run(pixels)
        return pixels.reshape(len(pixels), -1)

    def _cache(self) -> ImageRows:
        """Make the views of all images once, for every fold and every later attempt too."""
        request = Request(
            self._images.sources,
            self._spec,
            self._views(self._settings.views),
            self._seed,
            trunk_digest(self._frozen),
        )
        return CachedRows(
            open_cache(cache_dir() / "trunks", request, self._run, threads=self._threads)
        )

    def _views(self, count: int) -> Views:
        settings = self._settings
        return Views(count=count, crop=settings.crop, flip=settings.flip, jitter=settings.jitter)
