"""Does anything here match? A cosine says which image is nearest, never whether it is near.

Each image is asked what it thinks of a few hundred sentences about everything; a query that it
likes no better than those is no match. Works for any encoder: the sentences are embedded by it.
It ranks nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.atomic import replacing
from miniclip.encoder import Encoder
from miniclip.home import cache_dir
from miniclip.index.word_lists import BACKGROUND


@dataclass(frozen=True)
class Relevance:
    """Judge of matches. background: (M, D) float32 unit rows of the background sentences."""

    background: FloatArray = field(repr=False)

    @classmethod
    def of(cls, encoder: Encoder) -> Relevance:
        """Embed the background with an encoder, or read what was embedded before.

        StoreError when the user's cache directory cannot be written.
        """
        digest = hashlib.sha256("\n".join((encoder.fingerprint, *BACKGROUND)).encode()).hexdigest()
        path = cache_dir() / f"background-{digest[:16]}.npy"
        rows = _read(path, (len(BACKGROUND), encoder.embedding_dim))
        if rows is None:
            rows = encoder.encode_texts(BACKGROUND)
            with replacing(path) as stream:
                np.save(stream, rows, allow_pickle=False)
        return cls(rows)

    def confidence(self, query: FloatArray, embeddings: FloatArray) -> NDArray[np.float64]:
        """Return the probability, (N,) 0..1, that each image shows what the query says.

        query: (D,) float32, unit length, of sentences. embeddings: (N, D) float32 unit rows.
        """
        opinions = embeddings @ self.background.T
        mean, std = opinions.mean(axis=1), opinions.std(axis=1)
        z = (embeddings @ query - mean) / np.maximum(std, 1e-6)
        share: NDArray[np.float64] = 1 / (1 + np.exp(-2.0 * (z.astype(np.float64) - 3.0)))
        return share


def _read(path: Path, shape: tuple[int, int]) -> FloatArray | None:
    try:
        rows: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float32 else None
