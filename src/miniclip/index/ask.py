"""Put a question to an index: rank, filter, cut what does not match, fold copies, turn pages.

It joins the parts (store, full text, `relevance`, `near_duplicates`); each of them knows nothing of
the others. It reads no words (see `query`) and opens no image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self
from weakref import WeakKeyDictionary

from miniclip.arrays import FloatArray, IntArray
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError
from miniclip.index.hybrid import fuse
from miniclip.index.near_duplicates import SourcesOf, fold, grey_rows
from miniclip.index.query import Query, query_vector, wanted_vector
from miniclip.index.relevance import CROWD, CUT, Opinions, Relevance
from miniclip.index.store import Filter, ImageRecord, Scored

By = Literal["vectors", "text", "both"]
_AHEAD = 4  # candidates per hit wanted, at first; doubled while cuts and folds leave too few
_SHORT = 3  # letters; shorter words say nothing about a picture


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of an index.

    vector: (D,) float32, unit length. wanted: (D,) the sentences that are looked for, by which
    confidence is judged; None when there are none (example images have no background). words: for
    full text. by: what ranks. skip, top: hits to pass over and to return. min_confidence: 0..1,
    below which an image is no hit; 0 keeps all. near_duplicates: fold copies into the best of them.
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
                f"the lowest confidence is {self.min_confidence:g}; give a number from 0 to 1"
            )
        if self.by != "vectors" and not self.words.strip():
            raise ConfigError(f"searching by {self.by} needs words; give a sentence too")

    @classmethod
    def of(cls, encoder: Encoder, query: Query, **options: Any) -> Self:
        """Ask what a person typed; options: the fields above. Errors as for `query_vector`."""
        return cls(
            vector=query_vector(encoder, query),
            wanted=wanted_vector(encoder, query),
            words=" ".join(query.wanted),
            **options,
        )


@dataclass(frozen=True)
class Found:
    """One hit. cosine: -1..1, by which the model ranks; alike: copies of it, best first.

    confidence: 0..1 that it shows what is asked, or None; it says whether, and ranks nothing.
    doubtful: whether the usual limit of confidence would have cut it.
    """

    record: ImageRecord
    cosine: float
    confidence: float | None
    doubtful: bool = False
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


class Searchable(Protocol):
    """What a question needs of a store; for the meaning of each see `Store`."""

    def nearest(
        self,
        query: FloatArray,
        *,
        top: int,
        where: Filter | None = None,
        exclude: Collection[int] = (),
    ) -> list[Scored]:
        """Return the images closest to the query."""
        ...

    def full_text(self, words: str, *, top: int, where: Filter | None = None) -> list[int]:
        """Return the images that words find."""
        ...

    def ids(self, where: Filter | None = None) -> IntArray:
        """Return the ids of all images."""
        ...

    def embedded(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        """Return images and their vectors."""
        ...


def ask(
    store: Searchable,
    question: Question,
    relevance: Relevance | None,
    *,
    sources_of: SourcesOf | None = None,
) -> Answer:
    """Answer a question from a store whose model is in use.

    relevance: None leaves all confidences None and cuts nothing. sources_of: where images can be
    read, so that the pictures too tell near-duplicates; without it only vectors do. StoreError when
    the store fails.
    """
    wanted = question.skip + question.top + 1
    depth = wanted * _AHEAD if question.min_confidence or question.near_duplicates else wanted
    judge = _Judge(store, question, relevance)
    while True:
        candidates = _candidates(store, question, depth)
        judged = judge(candidates)
        kept = [hit for hit, matches in judged if matches]
        hits = _folded(store, kept, sources_of) if question.near_duplicates else kept
        hopeless = not any(matches for _, matches in judged[len(judged) // 2 :])
        if len(hits) >= wanted or len(candidates) < depth or hopeless:
            break
        depth *= 2
    end = question.skip + question.top
    closest = judged[0][0] if judged and not kept else None
    return Answer(tuple(hits[question.skip : end]), more=len(hits) > end, closest=closest)


def _candidates(store: Searchable, question: Question, depth: int) -> list[int]:
    rankings: list[list[int]] = []
    if question.by != "text":
        near = store.nearest(
            question.vector, top=depth, where=question.where, exclude=question.exclude
        )
        rankings.append([hit.id for hit in near])
    if question.by != "vectors":
        written = store.full_text(question.words, top=depth, where=question.where)
        rankings.append([identity for identity in written if identity not in question.exclude])
    if len(rankings) == 1:
        return rankings[0]
    return [fused.id for fused in fuse(rankings)][:depth]


class _Judge:
    """Turns candidates into hits, and says which of them match."""

    def __init__(self, store: Searchable, question: Question, relevance: Relevance | None) -> None:
        self._store, self._question, self._relevance = store, question, relevance
        self._crowd: Opinions | None = None
        if relevance is not None and question.wanted is not None:
            self._crowd = _crowd(store, relevance)

    def __call__(self, ids: Sequence[int]) -> list[tuple[Found, bool]]:
        records, embeddings = self._store.embedded(ids)
        if not records:
            return []
        question = self._question
        cosines = (embeddings @ question.vector).tolist()
        confidences: list[float | None] = [None] * len(records)
        if self._relevance and question.wanted is not None and self._crowd is not None:
            images = self._relevance.opinions(embeddings)
            shares = self._relevance.confidence(question.wanted, images, self._crowd)
            confidences = list(shares.tolist())
        return [
            (
                Found(record, cosine, confidence, not self._matches(record, confidence, CUT)),
                self._matches(record, confidence, question.min_confidence),
            )
            for record, cosine, confidence in zip(records, cosines, confidences, strict=True)
        ]

    def _matches(self, record: ImageRecord, confidence: float | None, least: float) -> bool:
        return (
            confidence is None
            or confidence >= least
            or (self._question.by != "vectors" and spelled_out(record, self._question.words))
        )


# A sample of each open store, drawn once: a million ids take longer than a search. It may grow old
# while the store goes on, as any fair sample may.
_CROWDS: WeakKeyDictionary[Searchable, tuple[Relevance, Opinions]] = WeakKeyDictionary()


def _crowd(store: Searchable, relevance: Relevance) -> Opinions:
    judge, crowd = _CROWDS.get(store, (None, None))
    if crowd is None or judge is not relevance:
        ids = store.ids()
        _, embeddings = store.embedded(ids[:: max(1, len(ids) // CROWD)].tolist())
        crowd = relevance.opinions(embeddings)
        _CROWDS[store] = relevance, crowd
    return crowd


def spelled_out(record: ImageRecord, words: str) -> bool:
    """Whether captions, tags and place of an image hold every word of three letters and more."""
    text = " ".join((record.path, record.member, *record.captions, *record.tags)).lower()
    held = set(re.findall(r"[^\W_]+", text))
    asked = [word for word in re.findall(r"[^\W_]+", words.lower()) if len(word) >= _SHORT]
    return bool(asked) and held.issuperset(asked)


def _folded(store: Searchable, hits: Sequence[Found], sources_of: SourcesOf | None) -> list[Found]:
    """Fold copies into the first hit that they resemble."""
    hit_of = {hit.record.id: hit for hit in hits}
    records, embeddings = store.embedded(list(hit_of))
    greys = grey_rows(sources_of(records)) if sources_of else None
    return [
        replace(hit_of[records[first].id], alike=tuple(records[row] for row in others))
        for first, *others in fold(embeddings, greys)
    ]
