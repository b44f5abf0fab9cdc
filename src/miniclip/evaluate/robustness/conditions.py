"""Vectors of corrupted pictures: decoded once, corrupted as the model would see them, kept.

Each picture is corrupted after it was brought to the size of the encoder's canvas, as ImageNet-C
is at 224 pixels: the corruption then costs a twentieth of the encoder, and severity means the same
for a photo of any size. Chance comes from the content of the file, the corruption, the severity and
the seed, so that a picture is always corrupted alike.

Vectors are kept in a cache of their own, a batch at a time: a run that is killed goes on where it
was. Nothing is judged here.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.corruptions import VERSION, corrupt
from miniclip.corruptions.pixels import Pixels
from miniclip.cpus import usable_cpus
from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.errors import StoreError
from miniclip.images import ImageSource, decode
from miniclip.index.vector_cache import VectorCache
from miniclip.preprocess import canvas, canvas_pixels
from miniclip.views import View

BATCH = 32
_BLOCK = 256  # images whose canvases are in memory at a time: some 50 MB a view


class Condition(NamedTuple):
    """A corruption and how bad it is: severity 1 to 5, or 0 for the picture as it is."""

    corruption: str
    severity: int

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity}" if self.severity else "clean"


CLEAN = Condition("clean", 0)


@dataclass(frozen=True)
class Seen:
    """N images as an encoder saw them in one condition.

    features: (V, N, F) float32, a layer a view, the plain one first. embeddings: (N, D) float32
    unit rows of the plain view.
    """

    features: FloatArray = field(repr=False)
    embeddings: FloatArray = field(repr=False)


class _Job(NamedTuple):
    condition: Condition
    view: int
    content: bytes


class CorruptedImages:
    """N images under any condition, for one encoder.

    sources, contents: N, the sha256 of each file; every source has been decoded before. cache: not
    the one of whole pictures, for it may be thrown away by itself.
    """

    def __init__(
        self,
        encoder: Encoder,
        sources: Sequence[ImageSource],
        contents: Sequence[str],
        cache: VectorCache,
        *,
        views: Sequence[View],
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.views = tuple(views)
        self.contents = [bytes.fromhex(content) for content in contents]
        self._source_of = dict(zip(self.contents, sources, strict=True))
        self._cache = cache
        self._seed = seed

    def fill(self, conditions: Sequence[Condition], progress: Progress) -> int:
        """Embed what the cache lacks; returns how many images went through the model.

        progress: called with the images done, all conditions and views together.
        """
        done = computed = 0
        unique = list(self._source_of)
        for block in (unique[at : at + _BLOCK] for at in range(0, len(unique), _BLOCK)):
            jobs = [job for one in conditions for job in self._missing(one, block)]
            done += len(conditions) * len(self.views) * len(block) - len(jobs)
            progress(done)
            for count in self._embed(jobs, block):
                computed += count
                done += count
                progress(done)
        return computed

    def seen(self, condition: Condition, views: Sequence[View]) -> Seen:
        """Return what `fill` has kept of these views; StoreError when it is gone."""
        model = self.encoder.fingerprint
        layers = [
            self._cache.load_features(model, self._key(condition, view), self.contents)
            for view in views
        ]
        embeddings = self._cache.load(f"{model} {self._key(condition)}", self.contents)
        try:
            return Seen(
                np.stack([[layer[content] for content in self.contents] for layer in layers]),
                np.stack([embeddings[content] for content in self.contents]),
            )
        except KeyError as error:
            raise StoreError(
                "vectors of corrupted pictures vanished from the cache during the run; run again"
            ) from error

    def picture(self, row: int, condition: Condition) -> Pixels:
        """Return image `row` as the model sees it, before its colours are normalised."""
        content = self.contents[row]
        return self._corrupted(self._canvas(content, self.views[0]), condition, content)

    def _missing(self, condition: Condition, block: Sequence[bytes]) -> Iterator[_Job]:
        model = self.encoder.fingerprint
        for number, view in enumerate(self.views):
            there = set(self._cache.load_features(model, self._key(condition, view), block))
            if number == 0:
                there &= self._cache.load(f"{model} {self._key(condition)}", block).keys()
            yield from (
                _Job(condition, number, content) for content in block if content not in there
            )

    def _embed(self, jobs: Sequence[_Job], block: Sequence[bytes]) -> Iterator[int]:
        """Run the model on the jobs, a batch at a time; yields how many it was."""
        if not jobs:
            return
        spec = self.encoder.image_spec
        with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="miniclip-corrupt") as pool:
            wanted = [(content, view) for view in self.views for content in block]
            canvases = dict(
                zip(wanted, pool.map(lambda one: self._canvas(*one), wanted), strict=True)
            )

            def pixels(job: _Job) -> FloatArray:
                own = canvases[job.content, self.views[job.view]]
                picture = self._corrupted(own, job.condition, job.content)
                return canvas_pixels(Image.fromarray(picture), spec)

            try:
                ready = _ahead(pool, pixels, jobs, 2 * BATCH)
                for start in range(0, len(jobs), BATCH):
                    batch = jobs[start : start + BATCH]
                    self._keep(batch, list(islice(ready, len(batch))))
                    yield len(batch)
            finally:
                pool.shutdown(cancel_futures=True)

    def _keep(self, jobs: Sequence[_Job], pixels: Sequence[FloatArray]) -> None:
        """Embed one batch and store it; the embedding last, by which a picture counts as done."""
        vectors = self.encoder.encode_pixels(np.stack(pixels))
        model = self.encoder.fingerprint
        rows: dict[tuple[Condition, int], list[int]] = {}
        for row, job in enumerate(jobs):
            rows.setdefault((job.condition, job.view), []).append(row)
        for (condition, view), own in rows.items():
            key = self._key(condition, self.views[view])
            self._cache.store_features(
                model, key, {jobs[row].content: vectors.features[row] for row in own}
            )
            if view == 0:
                self._cache.store(
                    f"{model} {self._key(condition)}",
                    {jobs[row].content: vectors.embeddings[row] for row in own},
                )

    def _canvas(self, content: bytes, view: View) -> Pixels:
        spec = self.encoder.image_spec
        # As large as `embed_stream` decodes, so that a clean picture gives the vectors of always.
        image = decode(self._source_of[content], at_least=spec.enough(view.zoom))
        return np.asarray(canvas(view.apply(image), spec))

    def _corrupted(self, picture: Pixels, condition: Condition, content: bytes) -> Pixels:
        if condition == CLEAN:
            return picture
        name, severity = condition
        chance = [int.from_bytes(content[:8]), zlib.crc32(name.encode()), severity, self._seed]
        return corrupt(picture, name, severity, np.random.default_rng(chance))

    def _key(self, condition: Condition, view: View | None = None) -> str:
        words = [*([view.name] if view else []), str(condition)]
        return " ".join([*words, f"seed {self._seed} v{VERSION}"])


def _ahead(
    pool: ThreadPoolExecutor,
    make: Callable[[_Job], FloatArray],
    jobs: Iterable[_Job],
    ahead: int,
) -> Iterator[FloatArray]:
    """Map in order, with so many in the pool's hands while the model runs."""
    coming = iter(jobs)
    waiting: deque[Future[FloatArray]] = deque()
    while True:
        waiting.extend(pool.submit(make, job) for job in islice(coming, ahead - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()
