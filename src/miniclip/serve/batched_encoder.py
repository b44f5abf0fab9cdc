"""`BatchedEncoder`: an `Encoder` whose runs are shared by all who call it at the same time.

Its two methods wait, so they are for threads; an event loop uses the two batchers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder, ImageVectors
from miniclip.preprocess import ImageSpec
from miniclip.serve.batching import Batcher

TEXTS = 64  # in one run


class BatchedEncoder:
    """Wraps an encoder.

    images: from pixels `image_spec.shape` to a row of each kind of vector; texts: from texts to
    rows (D,). queue: texts that may wait.

    Pictures give way to sentences: who types waits, who uploads has waited already.
    """

    def __init__(
        self,
        inner: Encoder,
        *,
        max_batch: int,
        queue: int,
        batching: bool = True,
        watch: Callable[[str, int], Any] = lambda _tower, _size: None,
    ) -> None:
        self._inner = inner
        self.images: Batcher[FloatArray, ImageVectors] = Batcher(
            self._run_images,
            most=max_batch if batching else 1,
            queue=None,  # the service counts them, before they are decoded
            name="images",
            polite=True,
            watch=lambda size: watch("image", size),
        )
        self.texts: Batcher[str, FloatArray] = Batcher(
            lambda texts: list(inner.encode_texts(texts)),
            most=TEXTS if batching else 1,
            queue=queue,
            name="texts",
            watch=lambda size: watch("text", size),
        )

    @property
    def name(self) -> str:
        """As of the encoder inside, like all that follows."""
        return self._inner.name

    @property
    def fingerprint(self) -> str:
        """Hex digest."""
        return self._inner.fingerprint

    @property
    def image_spec(self) -> ImageSpec:
        """How an image becomes pixels."""
        return self._inner.image_spec

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._inner.embedding_dim

    @property
    def feature_dim(self) -> int:
        """F."""
        return self._inner.feature_dim

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many features come from one layer."""
        return self._inner.feature_parts

    @property
    def logit_scale(self) -> float:
        """Factor from cosine to logit."""
        return self._inner.logit_scale

    @property
    def logit_bias(self) -> float:
        """Added to the scaled cosine."""
        return self._inner.logit_bias

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """(B, 3, S, S) float32 to vectors."""
        rows = self.images.submit(list(pixels)).result()
        return ImageVectors(
            np.stack([row.embeddings for row in rows]), np.stack([row.features for row in rows])
        )

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """N texts to unit rows (N, D); BusyError when too many texts wait."""
        rows = self.texts.submit(texts).result()
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.embedding_dim)

    def close(self) -> None:
        """Stop both threads."""
        self.images.close()
        self.texts.close()

    def _run_images(self, pixels: list[FloatArray]) -> list[ImageVectors]:
        vectors = self._inner.encode_pixels(np.stack(pixels))
        return [ImageVectors(*rows) for rows in zip(*vectors, strict=True)]
