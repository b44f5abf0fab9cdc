"""`FakeEncoder`: an encoder that means something without weights, for tests of what uses one.

Colour words and colours share its space: a photo that is mostly red is nearest to "a red thing".
It is deterministic, needs no model file and no runtime, and is no use on real questions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import ImageVectors
from miniclip.errors import ConfigError
from miniclip.preprocess import ImageSpec

# The eleven basic colour terms of English (Berlin and Kay, 1969), as sRGB.
COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 20, 20),
    "orange": (255, 140, 0),
    "yellow": (255, 230, 0),
    "green": (20, 150, 40),
    "blue": (20, 60, 220),
    "purple": (128, 0, 160),
    "pink": (255, 150, 190),
    "brown": (110, 60, 20),
}
_SYNONYMS = {"gray": "grey", "violet": "purple"}
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32) / 255
_SOFTNESS = 0.02  # squared distance in RGB over which a pixel stops counting for a colour
_OTHER_WORDS = 5  # dimensions that words without a colour share
_OTHER_WEIGHT = 0.05
_HALF = (0.5, 0.5, 0.5)
_SPEC = ImageSpec(
    side=16, resize="squash", resize_side=16, interpolation="bilinear", mean=_HALF, std=_HALF
)


@dataclass(frozen=True)
class FakeEncoder:
    """An `Encoder` whose embedding is the share of each colour (D = 16).

    Images: the share of pixels near each of the eleven `COLOURS`; the other 5 dimensions are 0.
    Texts:  1 for each colour word; every other word adds a small vector made of its hash, so that
            texts differ and a text without a colour still has a direction.
    Features (F = 12): the mean red, green and blue, 0..1, of the four quarters of the image.
    Another name gives another fingerprint, as another model would.
    """

    name: str = "fake"
    image_spec: ImageSpec = _SPEC
    embedding_dim: int = len(COLOURS) + _OTHER_WORDS
    feature_dim: int = 12
    feature_parts: tuple[int, ...] = (12,)
    logit_scale: float = 20.0
    logit_bias: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Hex digest over all that the vectors depend on."""
        return hashlib.sha256(repr((self, COLOURS)).encode()).hexdigest()

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """pixels: (B, 3, S, S) float32 from `preprocess`; ConfigError for another shape."""
        spec = self.image_spec
        if pixels.shape[1:] != spec.shape:
            raise ConfigError(
                f"pixels have shape {pixels.shape}; give (B, 3, {spec.side}, {spec.side})"
            )
        mean, std = np.array([spec.mean, spec.std], dtype=np.float32)
        shades = pixels.transpose(0, 2, 3, 1) * std + mean
        far = ((shades[..., None, :] - _PALETTE) ** 2).sum(-1)  # (B, S, S, colours)
        near = np.exp(-(far - far.min(-1, keepdims=True)) / _SOFTNESS)
        shares = (near / near.sum(-1, keepdims=True)).mean((1, 2))
        half = spec.side // 2
        halves = (slice(half), slice(half, None))
        quarters = [shades[:, rows, columns].mean((1, 2)) for rows in halves for columns in halves]
        return ImageVectors(
            unit_rows(np.pad(shares, ((0, 0), (0, _OTHER_WORDS)))),
            np.concatenate(quarters, axis=1, dtype=np.float32),
        )

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return unit rows (N, D) float32, one per text."""
        rows = np.zeros((len(texts), self.embedding_dim), dtype=np.float32)
        colours = list(COLOURS)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                colour = _SYNONYMS.get(word, word)
                if colour in COLOURS:
                    row[colours.index(colour)] += 1
                else:
                    row[len(colours) :] += _OTHER_WEIGHT * _hash_vector(word)
        return unit_rows(rows)


def picture(colour: str, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """Return an RGB picture, (width, height) pixels, of one of the `COLOURS`."""
    if colour not in COLOURS:
        raise ConfigError(f"no colour {colour!r} here; choose one of {', '.join(COLOURS)}")
    return Image.new("RGB", size, COLOURS[colour])


def _hash_vector(word: str) -> FloatArray:
    """Return (5,) float32 in -1..1, none of them 0."""
    digest = hashlib.blake2b(word.encode(), digest_size=_OTHER_WORDS).digest()
    return np.frombuffer(digest, dtype=np.uint8).astype(np.float32) / 127.5 - 1
