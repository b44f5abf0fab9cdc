"""Any sequence of calls against dictionaries: a store never says anything else."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from miniclip.errors import StoreError
from miniclip.index.store import (
    Below,
    Both,
    Compare,
    Either,
    Exists,
    Filter,
    ImageRecord,
    Known,
    Model,
    NewImage,
    Without,
)
from tests.index.store_kinds import KINDS, AnyStore
from tests.index.store_values import BEACH, CITY, image, vector, vectors


@dataclass
class Naive:
    """What the store should hold, in the plainest way."""

    images: dict[int, NewImage] = field(default_factory=dict)
    image_vectors: dict[str, dict[int, int]] = field(default_factory=dict)  # model -> id -> seed
    text_vectors: dict[str, dict[str, int]] = field(default_factory=dict)

    def drop(self, number: int) -> None:
        self.images.pop(number, None)
        for seeds in self.image_vectors.values():
            seeds.pop(number, None)

    def forget_orphans(self) -> None:
        texts = {text for one in self.images.values() for text in one.captions}
        for seeds in self.text_vectors.values():
            for text in set(seeds) - texts:
                del seeds[text]


def holds(where: Filter, one: NewImage) -> bool:
    match where:
        case Both(parts):
            return all(holds(part, one) for part in parts)
        case Either(parts):
            return any(holds(part, one) for part in parts)
        case Without(part):
            return not holds(part, one)
        case Below(folder):
            return one.path == folder or one.path.startswith(folder.rstrip("/") + "/")
        case Exists(column):
            return bool(column_values(column, one))
        case Compare(column, operator, value):
            return any(compares(have, operator, value) for have in column_values(column, one))


def column_values(column: str, one: NewImage) -> list[object]:
    if column in ("caption", "tag"):
        return list(one.captions if column == "caption" else one.tags)
    if column == "mtime":
        return [one.mtime_ns / 1e9]
    value = getattr(one, column)
    lacking = value is None or (column in ("width", "height", "member") and not value)
    return [] if lacking else [value]


def compares(have: object, operator: str, value: object) -> bool:
    if operator == "like":
        pattern = re.escape(str(value)).replace("%", ".*").replace("_", ".")
        return bool(re.fullmatch(pattern, str(have), re.DOTALL | re.IGNORECASE | re.ASCII))
    order: dict[str, Callable[[object, object], bool]] = {
        "=": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,  # type: ignore[operator]
        "<=": lambda a, b: a <= b,  # type: ignore[operator]
        ">": lambda a, b: a > b,  # type: ignore[operator]
        ">=": lambda a, b: a >= b,  # type: ignore[operator]
    }
    return order[operator](have, value)


PATHS = ("a.jpg", "b.jpg", "d/a.jpg", "d/e/b.jpg", "d.jpg", "D/é.jpg", "t.tar")
TEXTS = ("dog", "Dog", "a dog at sea", "", "Seehund äöü", "100%", "x\ny")
SEEDS = st.integers(0, 7)
NEW_IMAGES = st.builds(
    lambda path, member, seed, **more: image(path, seed, member=member, **more),
    st.sampled_from(PATHS),
    st.sampled_from(("", "1.jpg", "2.jpg")),
    SEEDS,
    width=st.sampled_from((0, 640)),
    taken=st.sampled_from((None, "2023-12-31T23:59:59", "2024-05-01T00:00:00")),
    camera=st.sampled_from((None, "NIKON D90", "Pixel 8")),
    latitude=st.sampled_from((None, -33.5, 0.0)),
    captions=st.lists(st.sampled_from(TEXTS), max_size=3).map(tuple),
    tags=st.lists(st.sampled_from(TEXTS), max_size=2).map(tuple),
)
BATCHES = st.lists(NEW_IMAGES, max_size=4, unique_by=lambda one: one.place)
OPERATORS = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
COMPARISONS = st.one_of(
    st.builds(
        Compare,
        st.sampled_from(("path", "member", "taken", "camera", "caption", "tag")),
        st.one_of(OPERATORS, st.just("like")),
        st.sampled_from((*TEXTS, *PATHS, "2024", "%nikon%", "d_%", "%O%", "%", "1.jpg")),
    ),
    st.builds(
        Compare,
        st.sampled_from(("size", "mtime", "width", "latitude")),
        OPERATORS,
        st.sampled_from((0, 3, 640, 3e-9, -33.5)),
    ),
    st.builds(Exists, st.sampled_from(("taken", "width", "member", "caption", "tag", "latitude"))),
    st.builds(Below, st.sampled_from((*PATHS, "d", "d/", "D", "d/e", "nowhere"))),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(Both, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Without, inner),
    ),
    max_leaves=6,
)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and a dictionary with the same calls, and compares what they say."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.stack.enter_context(pytest.MonkeyPatch.context()).setenv(
            "MINICLIP_HOME", str(directory / "home")
        )
        self.home = KINDS[self.kind].in_(directory)
        self.naive = Naive()
        self.model = BEACH

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.store.use_model(self.model)
        self.reader = self.home.open()
        self.stack.callback(self.reader.close)
        self.reader.use_model(self.model)

    def open(self) -> AnyStore:
        return self.home.open(write=True, graph_from=12)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.stack.close()

    @property
    def seeds(self) -> dict[int, int]:
        return self.naive.image_vectors.setdefault(self.model.fingerprint, {})

    @property
    def text_seeds(self) -> dict[str, int]:
        return self.naive.text_vectors.setdefault(self.model.fingerprint, {})

    def take(self, data: st.DataObject, most: int) -> list[int]:
        known = sorted(self.naive.images)
        return data.draw(st.lists(st.sampled_from(known), max_size=most, unique=True))

    @rule(batch=BATCHES)
    def upsert(self, batch: list[NewImage]) -> None:
        ids = self.store.upsert(batch, vectors(*(one.size for one in batch)))
        number_of = {one.place: number for number, one in self.naive.images.items()}
        assert len(ids) == len(batch)
        for number, one in zip(ids, batch, strict=True):
            assert number_of.get(one.place, number) == number
            old = self.naive.images.get(number)
            if old and old.content != one.content:
                self.naive.drop(number)
            self.naive.images[number] = one
            self.seeds[number] = one.size
        self.naive.forget_orphans()

    @precondition(lambda self: self.naive.images)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        chosen = self.take(data, 3)
        batch = {
            number: replace(data.draw(NEW_IMAGES), content=self.naive.images[number].content)
            for number in chosen
        }
        if len({one.place for one in batch.values()}) < len(batch):
            with pytest.raises(StoreError, match=r"[23] times"):
                self.store.update(batch)
            return
        self.store.update(batch)
        places = {one.place for one in batch.values()}
        for number, one in list(self.naive.images.items()):
            if one.place in places and number not in batch:
                self.naive.drop(number)
        self.naive.images.update(batch)
        self.naive.forget_orphans()

    @precondition(lambda self: self.naive.images)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        chosen = self.take(data, 5)
        self.store.delete(chosen)
        for number in chosen:
            self.naive.drop(number)
        self.naive.forget_orphans()

    @rule(limit=st.integers(1, 5))
    def embed_texts(self, limit: int) -> None:
        texts = self.store.texts_to_embed(limit)
        held = {text for one in self.naive.images.values() for text in one.captions}
        missing = held - set(self.text_seeds)
        assert set(texts) <= missing
        assert len(texts) == min(limit, len(missing))
        seeds = [100 + TEXTS.index(text) for text in texts]
        self.store.add_text_vectors([*texts, "no caption"], vectors(*seeds, 99))
        self.text_seeds.update(zip(texts, seeds, strict=True))

    @rule()
    def optimise(self) -> None:
        self.store.optimise()

    @rule(model=st.sampled_from((BEACH, CITY)))
    def use_model(self, model: Model) -> None:
        self.model = model
        self.store.use_model(model)
        self.reader.use_model(model)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = self.open()
        self.store.use_model(self.model)

    @rule(query=SEEDS, top=st.integers(1, 12), where=st.one_of(st.none(), FILTERS), data=st.data())
    def search(self, query: int, top: int, where: Filter | None, data: st.DataObject) -> None:
        exclude = self.take(data, 3) if self.naive.images else []
        found = self.reader.nearest(vector(query), top=top, where=where, exclude=exclude)

        seeds = {
            number: seed
            for number, seed in self.seeds.items()
            if number not in exclude and (where is None or holds(where, self.naive.images[number]))
        }
        assert [hit.id for hit in found] == ranked(query, seeds)[:top]
        for hit in found:
            assert hit.cosine == pytest.approx(cosine(query, seeds[hit.id]), abs=1e-6)

    @rule(query=SEEDS, top=st.integers(1, 9))
    def search_texts(self, query: int, top: int) -> None:
        found = self.reader.nearest_texts(vector(query), top=top)
        assert [hit.text for hit in found] == ranked(query, self.text_seeds)[:top]

    @rule(where=FILTERS)
    def filter(self, where: Filter) -> None:
        expected = [n for n, one in sorted(self.naive.images.items()) if holds(where, one)]
        assert self.reader.ids(where).tolist() == expected
        assert self.reader.count(where) == len(expected)

    @rule(word=st.sampled_from(("dog", "SEA", "äöü", "jpg", "nothing")))
    def full_text(self, word: str) -> None:
        def says(one: NewImage) -> bool:
            text = " ".join((*one.place, *one.captions, *one.tags)).lower()
            return word.lower() in re.split(r"[^\w]+", text)

        found = self.reader.full_text(word, top=100)
        assert sorted(found) == [n for n, one in sorted(self.naive.images.items()) if says(one)]

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "reader"):
            return
        naive = self.naive.images
        known = [
            Known(n, one.place, one.size, one.mtime_ns, one.content, n in self.seeds)
            for n, one in naive.items()
        ]
        known.sort(key=lambda one: tuple(map(os.fsencode, one.place)))
        assert list(self.reader.known()) == known
        ids = sorted(naive, reverse=True)
        assert self.reader.records(ids) == [ImageRecord(id=n, **vars(naive[n])) for n in ids]
        embedded = sorted(self.seeds)
        rows = self.reader.vectors(embedded)
        np.testing.assert_allclose(rows, vectors(*(self.seeds[n] for n in embedded)), atol=1e-3)
        records, same_rows = self.reader.embedded(sorted(naive))
        assert [record.id for record in records] == embedded
        np.testing.assert_array_equal(same_rows, rows)
        assert self.reader.verify() == len(self.seeds) + len(self.text_seeds)


def cosine(query: int, seed: int) -> float:
    kept = vector(seed).astype(np.float16).astype(np.float64)
    return float(min(1.0, (kept * vector(query)).sum()))


def ranked(query: int, seeds: Mapping[Any, int]) -> list[Any]:
    """Sort keys as a search should: best first, equal ones by key."""
    return sorted(seeds, key=lambda one: (-cosine(query, seeds[one]), one))


class MilvusLiteMachine(StoreMachine):
    """The same in Milvus Lite."""

    kind = "milvus-lite"


TestAnySequence = StoreMachine.TestCase
TestAnySequenceInMilvusLite = MilvusLiteMachine.TestCase
TestAnySequence.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
TestAnySequenceInMilvusLite.settings = settings(  # it takes a second to open, so fewer and longer
    TestAnySequence.settings, max_examples=10, stateful_step_count=30
)
