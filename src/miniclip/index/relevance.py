"""Does anything here match? A cosine says which image is nearest, never whether it is near.

Three questions about an image v and a query q, each answered in standard deviations of what v
thinks of a few hundred sentences about everything (the background, embedded by the encoder itself,
so that any encoder will do):

    own(q, v)        does v like q better than it likes the background?
    neighbours(q, v) does v also like what is said in the background about the same things as q?
    crowd(q)         how does the median image of the collection like q?

evidence = own + neighbours - crowd, the last held between -0.5 and 1. A query that all images like
a little (they are grey, and so is q) is no match for any of them; but where every image shows q,
that counts against none by more than 1. The first and the last term are the z-norm and the t-norm
of speaker verification (Auckenthaler, Carey and Lloyd-Thomas, Digital Signal Processing 10, 2000).

Two numbers turn evidence into a confidence by a logistic curve, fitted to right answers on the one
hand and, on the other, the best images of collections that hold no answer, both as likely. How they
were found, and what they do on other collections: docs/search.md. It ranks nothing.
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
from miniclip.index.word_lists import BACKGROUND, VOCABULARY

CUT = 0.5  # confidence from which an image counts as a match, unless the user says otherwise
CROWD = 1_000  # images of a collection whose median opinion is asked
_EVENS = 4.2  # evidence at which the confidence is 0.5
_SLOPE = 2.5
_NEIGHBOURS = 20
_CROWD_LIMITS = (-0.5, 1.0)
_LEAST_SPREAD = 1e-6
_NEUTRAL = 20  # images without an opinion that are added to the crowd: three images are no crowd


@dataclass(frozen=True)
class Opinions:
    """Images that can be asked for opinions.

    embeddings: (N, D) float32 unit rows; mean, spread: (N,) of their cosines with the background.
    """

    embeddings: FloatArray = field(repr=False)
    mean: NDArray[np.float64] = field(repr=False)
    spread: NDArray[np.float64] = field(repr=False)

    def of(self, query: FloatArray) -> NDArray[np.float64]:
        """Return the cosines with a query (D,) as standard scores, (N,)."""
        scores: NDArray[np.float64] = (self.embeddings @ query - self.mean) / self.spread
        return scores


@dataclass(frozen=True)
class Relevance:
    """Judge of matches for one encoder.

    background: (M, D) float32 unit rows of `BACKGROUND`; words: (W, D) of `VOCABULARY`, which are
    neighbours of queries of one word.
    """

    background: FloatArray = field(repr=False)
    words: FloatArray = field(repr=False)

    @classmethod
    def of(cls, encoder: Encoder) -> Relevance:
        """Embed the background with an encoder, or read what was embedded before.

        StoreError when the user's cache directory cannot be written.
        """
        texts = (*BACKGROUND, *VOCABULARY)
        if encoder.fingerprint in _MADE:
            return _MADE[encoder.fingerprint]
        digest = hashlib.sha256("\n".join((encoder.fingerprint, *texts)).encode()).hexdigest()
        path = cache_dir() / f"background-{digest[:16]}.npy"
        rows = _read(path, (len(texts), encoder.embedding_dim))
        if rows is None:
            rows = encoder.encode_texts(texts)
            with replacing(path) as stream:
                np.save(stream, rows, allow_pickle=False)
        judge = cls(rows[: len(BACKGROUND)], rows[len(BACKGROUND) :])
        _MADE[encoder.fingerprint] = judge
        return judge

    def opinions(self, embeddings: FloatArray) -> Opinions:
        """Return what images think: (N, D) float32 unit rows, held against the background."""
        cosines = (embeddings @ self.background.T).astype(np.float64)
        return Opinions(
            embeddings, cosines.mean(axis=1), np.maximum(cosines.std(axis=1), _LEAST_SPREAD)
        )

    def confidence(
        self, query: FloatArray, images: Opinions, crowd: Opinions
    ) -> NDArray[np.float64]:
        """Return how sure it is that each of N images shows what the query says: (N,), 0..1.

        query: (D,) float32, unit length, of sentences. crowd: a fair sample of the collection
        (`CROWD` images of it will do).
        """
        odds = _SLOPE * (self.evidence(query, images, crowd) - _EVENS)
        shares: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        return shares

    def evidence(self, query: FloatArray, images: Opinions, crowd: Opinions) -> NDArray[np.float64]:
        """Return own + neighbours - crowd for each image: (N,), in standard deviations."""
        known = np.concatenate([self.background, self.words])
        nearest = np.argsort(-(known @ query), kind="stable")[:_NEIGHBOURS]
        # Opinions are linear in the query: the mean of the neighbours' is that of their mean.
        neighbours = images.of(known[nearest].mean(axis=0))
        median = float(np.median(np.concatenate([crowd.of(query), np.zeros(_NEUTRAL)])))
        low, high = _CROWD_LIMITS
        return images.of(query) + neighbours - min(max(median, low), high)


_MADE: dict[str, Relevance] = {}  # by the fingerprint of the encoder; two megabytes each


def _read(path: Path, shape: tuple[int, int]) -> FloatArray | None:
    try:
        rows: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float32 else None
