"""The streaming pipeline: sources in, vectors out, in order, bad images skipped by name.

Threads decode ahead of the model; how far is bounded, so memory stays flat however many images
come. This file finds no images (see `index`), stores nothing and knows the model as an `Encoder`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.cpus import usable_cpus
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.views import PLAIN, View

Progress = Callable[[int], None]  # called with the number of images done, skipped ones included
Look = Callable[[ImageSource, Image.Image], Any]  # what it returns comes back as `seen`


class _Ready(NamedTuple):
    """pixels: (3, S, S), or why there are none. seen: what `look` said."""

    pixels: FloatArray | str
    seen: Any = None


@dataclass(frozen=True)
class Skipped:
    """An image, or a row of a data set, that was left out, and why."""

    name: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return what `--json` prints."""
        return {"path": self.name, "reason": self.reason}


class Embedded(NamedTuple):
    """One batch of results, in order of arrival.

    embeddings: (B, D) float32 unit rows; features: (B, F) float32; one row per source. seen: what
    `look` said of each.
    """

    sources: tuple[ImageSource, ...]
    embeddings: FloatArray
    features: FloatArray
    seen: tuple[Any, ...] = ()


class Stream(Protocol):
    """Whatever embeds as `embed_stream` does, be it here or on other computers."""

    def __call__(
        self,
        encoder: Encoder,
        sources: Iterable[ImageSource],
        *,
        view: View = PLAIN,
        look: Look | None = None,
    ) -> Generator[Embedded | Skipped]:
        """Yield vectors batch by batch in the order of the sources."""
        ...


@dataclass(frozen=True)
class EmbeddedSet:
    """All results of a collection; row i of both arrays belongs to names[i].

    embeddings: (N, D) float32 unit rows; features: (N, F) float32, before the projection.
    """

    names: tuple[str, ...]
    embeddings: FloatArray
    features: FloatArray
    skipped: tuple[Skipped, ...]


def embed_all(
    encoder: Encoder,
    sources: Iterable[ImageSource],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
    view: View = PLAIN,
    look: Look | None = None,
) -> EmbeddedSet:
    """Embed a collection that fits in memory; arguments as for `embed_stream`."""
    batches: list[Embedded] = []
    skipped: list[Skipped] = []
    names: list[str] = []
    stream = embed_stream(
        encoder,
        sources,
        batch_size=batch_size,
        threads=threads,
        progress=progress,
        view=view,
        look=look,
    )
    for result in stream:
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            names += [source.name for source in result.sources]
            batches.append(result._replace(sources=()))  # let go of bytes that sources may hold
    return EmbeddedSet(
        names=tuple(names),
        embeddings=_stack([batch.embeddings for batch in batches], encoder.embedding_dim),
        features=_stack([batch.features for batch in batches], encoder.feature_dim),
        skipped=tuple(skipped),
    )


def embed_stream(
    encoder: Encoder,
    sources: Iterable[ImageSource],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
    view: View = PLAIN,
    look: Look | None = None,
) -> Generator[Embedded | Skipped]:
    """Yield vectors batch by batch in the order of the sources; a bad image comes out as Skipped.

    sources is read lazily, in the caller's thread, at most two batches ahead. While the model runs
    on one batch, `threads` threads decode the next (default: as many as the process has cores).
    Every batch has `batch_size` images; only the last is smaller and is padded to a power of two
    for the model, so that a runtime plans its memory for two shapes and no more. Closing the
    generator, or any exception inside it, stops the threads after the image each has in hand.

    view: the part of each picture that the model sees. look: called in a decoding thread with every
    decoded picture, whole, for whoever wants to know more about it; what it returns is `seen` of
    the batch, and an ImageError from it skips the image.

    Raises ConfigError at once for a batch size or thread count below 1.
    """
    for name, value in (("batch_size", batch_size), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; give a whole number above 0")
    pool_size = threads or usable_cpus()
    ready = partial(_ready, spec=encoder.image_spec, view=view, look=look)
    decoded = _decoded(sources, ready, pool_size, ahead=2 * batch_size)
    return _stream(encoder, decoded, batch_size, progress or (lambda _done: None))


def _stream(
    encoder: Encoder,
    decoded: Generator[tuple[ImageSource, _Ready]],
    batch_size: int,
    progress: Progress,
) -> Generator[Embedded | Skipped]:
    kept: list[tuple[ImageSource, Any]] = []
    # A fresh buffer per batch would be simpler, but page faults on 26 MB cost as much as decoding.
    pixels = np.zeros((batch_size, *encoder.image_spec.shape), dtype=np.float32)
    done = 0
    with closing(decoded):
        for source, ready in decoded:
            if isinstance(ready.pixels, str):
                done += 1
                progress(done)
                yield Skipped(source.name, ready.pixels)
                continue
            pixels[len(kept)] = ready.pixels
            kept.append((source, ready.seen))
            if len(kept) == batch_size:
                batch = _embed(encoder, kept, pixels)
                done += len(kept)
                kept = []
                progress(done)
                yield batch
    if kept:
        batch = _embed(encoder, kept, pixels)
        progress(done + len(kept))
        yield batch


def _embed(encoder: Encoder, kept: list[tuple[ImageSource, Any]], pixels: FloatArray) -> Embedded:
    """Run the model on the first len(kept) rows, padded by whatever the buffer holds."""
    count = len(kept)
    padded = min(len(pixels), 1 << (count - 1).bit_length())
    vectors = encoder.encode_pixels(pixels[:padded])
    sources, seen = zip(*kept, strict=True)
    return Embedded(sources, vectors.embeddings[:count], vectors.features[:count], seen)


def _decoded(
    sources: Iterable[ImageSource],
    ready: Callable[[ImageSource], _Ready],
    threads: int,
    ahead: int,
) -> Generator[tuple[ImageSource, _Ready]]:
    """Yield each source with its pixels, in order, keeping `ahead` of them in the pool's hands."""
    waiting: deque[tuple[ImageSource, Future[_Ready]]] = deque()
    coming = iter(sources)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="miniclip-decode")
    try:
        while True:
            for source in islice(coming, ahead - len(waiting)):
                waiting.append((source, pool.submit(ready, source)))
            if not waiting:
                return
            source, future = waiting.popleft()
            yield source, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ready(source: ImageSource, spec: ImageSpec, view: View, look: Look | None) -> _Ready:
    try:
        image = decode(source, at_least=spec.enough(view.zoom))
        seen = look(source, image) if look else None
    except ImageError as error:
        return _Ready(str(error).removeprefix(f"{source.name}: "))
    return _Ready(preprocess(view.apply(image), spec), seen)


def _stack(parts: list[FloatArray], width: int) -> FloatArray:
    return np.concatenate(parts) if parts else np.empty((0, width), dtype=np.float32)
