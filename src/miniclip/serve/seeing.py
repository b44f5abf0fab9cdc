"""`Sight`: uploads to vectors, a bounded number at a time, however many come at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.errors import ImageError
from miniclip.serve.batched_encoder import BatchedEncoder
from miniclip.serve.decoding import Decoders
from miniclip.serve.failures import BusyError, LimitError
from miniclip.serve.settings import Settings

_AHEAD = 4  # batches of decoded images that may be in memory


class Upload(Protocol):
    """An image on its way in."""

    async def read(self) -> bytes:
        """Return the bytes of the file; ImageError when there are too many."""
        ...


@dataclass(frozen=True)
class InMemory:
    """An image whose bytes are here already."""

    data: bytes

    async def read(self) -> bytes:
        """Return them."""
        return self.data


class Seen(NamedTuple):
    """An image as the model sees it: (V, D) unit rows and (V, F) features, a row for each view."""

    content: str
    embeddings: FloatArray
    features: FloatArray


class Sight:
    """What decodes and encodes, for whoever has images; of one event loop."""

    def __init__(self, encoder: BatchedEncoder, decoders: Decoders, settings: Settings) -> None:
        self._encoder, self._decoders, self._settings = encoder, decoders, settings
        self._room = asyncio.Semaphore(_AHEAD * settings.max_batch)
        self.waiting = 0  # images that have come and are not done

    async def see(
        self, images: Sequence[Upload], views: str = "plain"
    ) -> AsyncGenerator[Seen | ImageError]:
        """Yield what the model sees in each image, in order, or why it cannot be read.

        LimitError for too many images, BusyError when too many wait already; DecoderDiedError.
        """
        most, waiting = self._settings.max_images, self.waiting
        if len(images) > most:
            raise LimitError(f"{len(images)} images are too many; send at most {most} at once")
        if waiting and waiting + len(images) > self._settings.queue:
            raise BusyError(self._encoder.images.retry_after)
        self.waiting += len(images)
        coming = [asyncio.create_task(self._see(image, views)) for image in images]
        try:
            for task in coming:
                yield await task
        finally:
            self.waiting -= len(images)
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def see_one(self, image: Upload) -> Seen:
        """As `see`, of one image; raises its ImageError."""
        async for seen in self.see([image]):
            if isinstance(seen, ImageError):
                raise seen
            return seen
        raise AssertionError("one image gives one answer")

    async def _see(self, image: Upload, views: str) -> Seen | ImageError:
        async with self._room:
            try:
                data = await image.read()
                pixels = await self._decoders.pixels(data, views)
            except ImageError as error:
                return error
            rows = await asyncio.wrap_future(self._encoder.images.submit(list(pixels)))
        vectors = ImageVectors(*map(np.stack, zip(*rows, strict=True)))
        return Seen(hashlib.sha256(data).hexdigest(), vectors.embeddings, vectors.features)
