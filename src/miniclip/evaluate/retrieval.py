"""How well sentences find their images and images their sentences, with intervals.

Protocol: every caption of an image is a positive, one hit is enough, all other images (or all
captions of other images) are wrong answers, no re-ranking. Ties count against the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.datasets.captions import CaptionSet
from miniclip.embed import Embedded, Progress, Skipped, embed_stream
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.index.vector_cache import VectorCache
from miniclip.metrics import (
    Interval,
    Ranks,
    bootstrap_interval,
    median_rank,
    mrr,
    recall_at,
    retrieval_ranks,
)
from miniclip.probe.table import read_table

RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class Direction:
    """Scores of one direction by name: recall@1, recall@5, recall@10, median_rank, mrr.

    Recalls and mrr are fractions from 0 to 1, median_rank counts from 1. intervals: 95 %,
    percentile bootstrap over images, under the same names.
    """

    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and, under "interval", the two ends of each."""
        return {
            **self.scores,
            "interval": {name: list(interval) for name, interval in self.intervals.items()},
        }


@dataclass(frozen=True)
class RetrievalResult:
    """Both directions, what was counted and what was left out."""

    text_to_image: Direction
    image_to_text: Direction
    protocol: str
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints, but for the name of the model."""
        return {
            "text_to_image": self.text_to_image.to_dict(),
            "image_to_text": self.image_to_text.to_dict(),
            "protocol": self.protocol,
            "skipped": [entry.to_dict() for entry in self.skipped],
        }

    def __str__(self) -> str:
        header = "".join(f"{f'R@{k} %':>20}" for k in RECALLS) + f"{'median':>8}{'MRR':>8}"
        rows = [
            f"{title:<14}"
            + "".join(_percent(direction, f"recall@{k}") for k in RECALLS)
            + f"{direction.scores['median_rank']:>8g}{direction.scores['mrr']:>8.3f}"
            for title, direction in (
                ("text -> image", self.text_to_image),
                ("image -> text", self.image_to_text),
            )
        ]
        return "\n".join([self.protocol, " " * 14 + header, *rows])


@dataclass(frozen=True)
class EmbeddedCaptions:
    """Captioned images that could be read, with their vectors.

    image: (N, D) float32 unit rows, one for each image of `captions`; text: (M, D) float32 unit
    rows, one for each of its texts.
    """

    captions: CaptionSet
    image: FloatArray = field(repr=False)
    text: FloatArray = field(repr=False)

    def ranks(self) -> Ranks:
        """Rank every image for every text and the other way round."""
        return retrieval_ranks(self.image, self.text, self.captions.image_of_text)

    def score(self, *, seed: int = 0, resamples: int = 1000) -> RetrievalResult:
        """Score the ranks, with intervals."""
        return score_ranks(
            self.ranks(),
            self.captions.image_of_text,
            split=self.captions.name,
            skipped=self.captions.skipped,
            seed=seed,
            resamples=resamples,
        )


def evaluate_retrieval(
    encoder: Encoder,
    caption_set: CaptionSet,
    *,
    seed: int = 0,
    resamples: int = 1000,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
) -> RetrievalResult:
    """Embed images and captions and score them; an image that cannot be decoded is skipped.

    progress: called with the number of images done. Raises DatasetError when no image is left.
    """
    return embed_captions(
        encoder, caption_set, batch_size=batch_size, threads=threads, progress=progress
    ).score(seed=seed, resamples=resamples)


def embed_captions(
    encoder: Encoder,
    caption_set: CaptionSet,
    *,
    cache: VectorCache | None = None,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EmbeddedCaptions:
    """Embed images and captions; an image that cannot be decoded is skipped with its captions.

    cache: where image vectors are looked up first, and kept. progress: called with the number of
    images done. Raises DatasetError when no image is left.
    """
    sources = [image.source for image in caption_set.images]
    if cache is None:
        stream = embed_stream(
            encoder, sources, batch_size=batch_size, threads=threads, progress=progress
        )
        names, vectors, undecodable = _gathered(stream)
    else:
        table = read_table(encoder, sources, cache, progress=progress)
        names, vectors, undecodable = table.names, table.embeddings, table.skipped
    if not names:
        first = f" (first: {undecodable[0].name}: {undecodable[0].reason})" if undecodable else ""
        raise DatasetError(
            f"none of the {len(caption_set)} images of {caption_set.name} can be decoded{first}; "
            "check the image folder"
        )
    known = set(names)
    readable = replace(
        caption_set,
        images=tuple(image for image in caption_set.images if image.source.name in known),
        skipped=(*caption_set.skipped, *undecodable),
    )
    return EmbeddedCaptions(readable, vectors, encoder.encode_texts(readable.texts))


def _gathered(
    stream: Iterable[Embedded | Skipped],
) -> tuple[tuple[str, ...], FloatArray, tuple[Skipped, ...]]:
    """Gather names and embeddings (N, D); the features, which are much larger, are let go."""
    names: list[str] = []
    batches: list[FloatArray] = [np.empty((0, 0), dtype=np.float32)]
    undecodable: list[Skipped] = []
    for result in stream:
        if isinstance(result, Skipped):
            undecodable.append(result)
        else:
            batches.append(result.embeddings)
            names += [source.name for source in result.sources]
    return tuple(names), np.concatenate(batches[1:] or batches), tuple(undecodable)


def score_retrieval(
    image: FloatArray,
    text: FloatArray,
    image_of_text: IntArray,
    *,
    split: str,
    skipped: tuple[Skipped, ...] = (),
    seed: int = 0,
    resamples: int = 1000,
) -> RetrievalResult:
    """Score vectors that are there already: (N, D) and (M, D) float32 unit rows, owners (M,)."""
    ranks = retrieval_ranks(image, text, image_of_text)
    return score_ranks(
        ranks, image_of_text, split=split, skipped=skipped, seed=seed, resamples=resamples
    )


def score_ranks(
    ranks: Ranks,
    image_of_text: IntArray,
    *,
    split: str,
    skipped: tuple[Skipped, ...] = (),
    seed: int = 0,
    resamples: int = 1000,
) -> RetrievalResult:
    """Score ranks that are known already; image_of_text: (M,), the owner of each text."""
    images, texts = len(ranks.image_to_text), len(ranks.text_to_image)
    protocol = (
        f"{images:,} images, {texts:,} texts, split {split}, every caption of an image is "
        f"a positive, no re-ranking; 95 % bootstrap intervals over images, {resamples:,} resamples"
    )
    return RetrievalResult(
        _direction(ranks.text_to_image, image_of_text, seed, resamples),
        _direction(ranks.image_to_text, np.arange(images), seed, resamples),
        protocol,
        skipped,
    )


def _direction(ranks: IntArray, images: IntArray, seed: int, resamples: int) -> Direction:
    def mean_interval(values: NDArray[Any]) -> Interval:
        return bootstrap_interval(values, images, seed=seed, resamples=resamples)

    median_interval = bootstrap_interval(
        ranks + 1, images, statistic="median", seed=seed, resamples=resamples
    )
    return Direction(
        scores={
            **{f"recall@{k}": recall_at(ranks, k) for k in RECALLS},
            "median_rank": median_rank(ranks),
            "mrr": mrr(ranks),
        },
        intervals={
            **{f"recall@{k}": mean_interval(ranks < k) for k in RECALLS},
            "median_rank": median_interval,
            "mrr": mean_interval(1.0 / (ranks + 1.0)),
        },
    )


def _percent(direction: Direction, name: str) -> str:
    low, high = direction.intervals[name]
    return f"{f'{direction.scores[name]:.1%} [{low:.1%}, {high:.1%}]'.replace('%', ''):>20}"
