"""Put a question to an index: rank, filter, cut what does not match, fold copies, turn pages.

It joins the parts (store, full text, `relevance`, `near_duplicates`); each of them knows nothing of
the others. It reads no words (see `query`) and opens no image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError
from miniclip.index.hybrid import fuse
from miniclip.index.near_duplicates import COSINE, fold
from miniclip.index.relevance import Relevance
from miniclip.index.store import Filter, ImageRecord, Store

By = Literal["vectors", "text", "both"]
_AHEAD = 4  # candidates per hit wanted, at first; doubled while cuts and folds leave too few
_SHORT = 3  # letters; shorter words say nothing about a picture


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of an index.

    vector: (D,) float32, unit length. wanted: (D,) the vector that confidence is judged by, None
    when it cannot be (example images have no background). words: for full text. by: what ranks.
    skip, top: hits to pass over and to return. min_confidence: 0..1, below which an image is no
    hit; 0 keeps all. near_duplicates: fold copies into the best of them.
    """

    vector: FloatArray
    wanted: FloatArray | None = None
    words: str = ""
    by: By = "vectors"
    top: int = 12
    skip: int = 0
    where: Filter | None = None
    exclude: Collection[int] = ()
    min_confidence: float = 0.0
    near_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.top < 1 or self.skip < 0:
            raise ConfigError(
                f"top is {self.top} and skip {self.skip}; ask for at least 1 result, skip 0 or more"
            )
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(
                f"min_confidence is {self.min_confidence:g}; give a number from 0 to 1"
            )
        if self.by != "vectors" and not self.words.strip():
            raise ConfigError(f"searching by {self.by} needs words; give a sentence too")


@dataclass(frozen=True)
class Found:
    """One hit. cosine: -1..1; confidence: 0..1 or None; alike: copies of it, best first."""

    record: ImageRecord
    cosine: float
    confidence: float | None
    alike: tuple[ImageRecord, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The hits of one page.

    more: whether another page follows. closest: the best image when it was cut as no match, so that
    an empty answer can say what came nearest; None otherwise.
    """

    hits: tuple[Found, ...]
    more: bool
    closest: Found | None = None


def ask(store: Store, question: Question, relevance: Relevance | None) -> Answer:
    """Answer a question from a store whose model is in use.

    relevance: None leaves all confidences None and cuts nothing. StoreError when the store fails.
    """
    wanted = question.skip + question.top + 1
    depth = wanted * _AHEAD if question.min_confidence or question.near_duplicates else wanted
    while True:
        candidates = _candidates(store, question, depth)
        judged = _judge(store, question, relevance, candidates)
        kept = [found for found, matches in judged if matches]
        hits = _folded(store, kept) if question.near_duplicates else kept
        exhausted = len(candidates) < depth
        hopeless = not any(matches for _, matches in judged[len(judged) // 2 :])
        if len(hits) >= wanted or exhausted or hopeless:
            break
        depth *= 2
    page = hits[question.skip : question.skip + question.top]
    closest = judged[0][0] if judged and not kept else None
    return Answer(tuple(page), more=len(hits) > question.skip + question.top, closest=closest)


def _candidates(store: Store, question: Question, depth: int) -> list[int]:
    rankings: list[Sequence[int]] = []
    if question.by != "text":
        near = store.nearest(
            question.vector, top=depth, where=question.where, exclude=question.exclude
        )
        rankings.append([hit.id for hit in near])
    if question.by != "vectors":
        written = store.full_text(question.words, top=depth, where=question.where)
        rankings.append([identity for identity in written if identity not in question.exclude])
    return (
        [fused.id for fused in fuse(rankings)][:depth] if len(rankings) > 1 else list(rankings[0])
    )


def _judge(
    store: Store, question: Question, relevance: Relevance | None, ids: Sequence[int]
) -> list[tuple[Found, bool]]:
    """Return each candidate, and whether it counts as a hit."""
    records, embeddings = store.embedded(ids)
    if not records:
        return []
    cosines = (embeddings @ question.vector).tolist()
    confidences: list[float | None] = [None] * len(records)
    if relevance is not None and question.wanted is not None:
        confidences = list(relevance.confidence(question.wanted, embeddings).tolist())
    judged = []
    for record, cosine, confidence in zip(records, cosines, confidences, strict=True):
        matches = (
            confidence is None
            or confidence >= question.min_confidence
            or (question.by != "vectors" and spelled_out(record, question.words))
        )
        judged.append((Found(record, cosine, confidence), matches))
    return judged


def spelled_out(record: ImageRecord, words: str) -> bool:
    """Whether captions, tags and place of an image hold every word of three letters and more."""
    text = " ".join((record.path, record.member, *record.captions, *record.tags)).lower()
    held = set(re.findall(r"[^\W_]+", text))
    asked = [word for word in re.findall(r"[^\W_]+", words.lower()) if len(word) >= _SHORT]
    return bool(asked) and held.issuperset(asked)


def _folded(store: Store, hits: list[Found]) -> list[Found]:
    records, embeddings = store.embedded([hit.record.id for hit in hits])
    there = {record.id for record in records}  # another process may have deleted some meanwhile
    hits = [hit for hit in hits if hit.record.id in there]
    if not hits:
        return []
    return [
        Found(
            hits[first].record,
            hits[first].cosine,
            hits[first].confidence,
            tuple(hits[row].record for row in others),
        )
        for first, *others in fold(embeddings, cosine=COSINE)
    ]
