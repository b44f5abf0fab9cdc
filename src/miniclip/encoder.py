"""The `Encoder` protocol: all that the product knows about a model. It runs nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from miniclip.arrays import FloatArray
from miniclip.preprocess import ImageSpec


class ImageVectors(NamedTuple):
    """What the image tower says about a batch.

    embeddings: (B, D) float32, unit rows, in the space shared with texts.
    features:   (B, F) float32, before the projection, for probing.
    """

    embeddings: FloatArray
    features: FloatArray


@runtime_checkable
class Encoder(Protocol):
    """A two-tower model: images and texts to unit vectors whose dot product is a cosine."""

    @property
    def name(self) -> str:
        """The name of the model, for people."""

    @property
    def fingerprint(self) -> str:
        """Hex digest over weights and preprocessing; equal digests give equal vectors."""

    @property
    def image_spec(self) -> ImageSpec:
        """How an image becomes pixels."""

    @property
    def embedding_dim(self) -> int:
        """D."""

    @property
    def feature_dim(self) -> int:
        """F."""

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many features come from one layer, the last layer's first; (F,) if all from one.

        Parts differ in scale, and only the first was trained to tell images apart.
        """

    @property
    def logit_scale(self) -> float:
        """Factor from cosine to logit (CLIP's exp of the learned temperature), positive."""

    @property
    def logit_bias(self) -> float:
        """Added to the scaled cosine; 0 for softmax models, learned for sigmoid models."""

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """pixels: (B, 3, S, S) float32 from `preprocess`. Returns vectors for the B images."""

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return unit rows (N, D) float32, one per text, in order; (0, D) for no texts."""
