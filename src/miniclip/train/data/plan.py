"""Which images, captions and views make up a step: a pure function of (seed, step).

The images come as one endless stream, pass after pass, each pass in an order of its own; step k
takes the k-th slice of it. So no batch is incomplete and nothing is left out: the batch in which a
pass ends is filled from the next. Nothing here reads an image or remembers where a run stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError

_ORDER, _CAPTIONS, _VIEWS = range(3)  # streams of random numbers


class BatchPlan(NamedTuple):
    """The rows of a batch; no image twice.

    images: (B,) in [0, N); captions: (B,), which caption of its image; views: (B,), which view.
    """

    images: IntArray
    captions: IntArray
    views: IntArray

    def share(self, rank: int, world_size: int) -> BatchPlan:
        """Return the rows of one process; the whole batch is the same for any number of them."""
        size = len(self.images) // world_size
        mine = slice(rank * size, (rank + 1) * size)
        return BatchPlan(*(rows[mine] for rows in self))


class Plan:
    """The batches of a run.

    In every pass an image shows one caption and one view, and in C passes each of its C captions
    once; likewise its views.
    """

    def __init__(
        self, caption_counts: Sequence[int], *, batch_size: int, seed: int, views: int = 1
    ) -> None:
        """caption_counts: (N,), at least 1 each. ConfigError when a batch is larger than N."""
        self.n_images = len(caption_counts)
        if not 0 < batch_size <= self.n_images:
            raise ConfigError(
                f"a batch of {batch_size} different images cannot be drawn from {self.n_images}; "
                "give a smaller train.batch or more images"
            )
        self.batch_size = batch_size
        self._seed = seed
        self._captions = np.asarray(caption_counts, dtype=np.int64)
        self._views = np.full(self.n_images, views, dtype=np.int64)
        self._tails: list[IntArray] = []  # of each pass so far, its last images, a batch at most
        self._recent: dict[int, BatchPlan] = {}

    def steps(self, passes: float) -> int:
        """Count the steps that show every image `passes` times, rounded, at least 1."""
        return max(1, round(passes * self.n_images / self.batch_size))

    def batch(self, step: int) -> BatchPlan:
        """Return the batch of a step from 0 up."""
        first = step * self.batch_size
        parts: list[BatchPlan] = []
        while (missing := self.batch_size - sum(len(part.images) for part in parts)) > 0:
            number, start = divmod(first + self.batch_size - missing, self.n_images)
            rows = slice(start, start + missing)
            parts.append(BatchPlan(*(column[rows] for column in self._pass(number))))
        return BatchPlan(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _pass(self, number: int) -> BatchPlan:
        """Return all rows of a pass, in order; the last two passes asked for are kept."""
        if number not in self._recent:
            order = self._order(number)
            captions = self._turns(_CAPTIONS, self._captions, number)
            views = self._turns(_VIEWS, self._views, number)
            kept = list(self._recent.items())[-1:]
            self._recent = dict(kept) | {number: BatchPlan(order, captions[order], views[order])}
        return self._recent[number]

    def _order(self, number: int) -> IntArray:
        """Return pass `number`'s order of images, (N,)."""
        for earlier in range(len(self._tails), number):
            self._tails.append(self._arranged(earlier)[-self.batch_size :])
        return self._arranged(number)

    def _arranged(self, number: int) -> IntArray:
        """Shuffle the images, so that the batch begun by the pass before gets no image twice."""
        draws = np.random.default_rng((self._seed, _ORDER, number))
        order: IntArray = draws.permutation(self.n_images)
        begun = number * self.n_images % self.batch_size  # rows of that batch that are taken
        if begun == 0:
            return order
        # Images that already stand in that batch change places with the first that do not.
        before = self._tails[number - 1][-begun:]
        missing = self.batch_size - begun
        clash = np.flatnonzero(np.isin(order[:missing], before))
        free = missing + np.flatnonzero(~np.isin(order[missing:], before))[: len(clash)]
        order[clash], order[free] = order[free], order[clash]
        return order

    def _turns(self, stream: int, counts: IntArray, number: int) -> IntArray:
        """Choose one of `counts` items per image, (N,), so that `counts` passes use each once."""
        chosen = np.zeros_like(counts)
        for count in np.unique(counts[counts > 1]):
            rows = np.flatnonzero(counts == count)
            cycle, turn = divmod(number, int(count))
            draws = np.random.default_rng((self._seed, stream, int(count), cycle))
            chosen[rows] = draws.random((len(rows), int(count))).argsort(axis=1)[:, turn]
        return chosen
