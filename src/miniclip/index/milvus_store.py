"""`Store` in Milvus: a cluster for more images than one machine should search, or Milvus Lite.

Which collections there are: milvus_schema.py; how a change is made: milvus_writer.py; what filters
can say: milvus_filter.py. Any number of threads may use one object, and any number of processes
one server; Milvus Lite serves one process. Here is no transaction over several questions, so an
answer may show a change that was seen between two of them; it never joins an image with the vector
of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Self

import numpy as np

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.errors import ConfigError, StoreError
from miniclip.home import cache_dir
from miniclip.index.lock import WriterLock
from miniclip.index.milvus_connection import MOST_HITS, Connection, is_server
from miniclip.index.milvus_images import Images
from miniclip.index.milvus_rows import record_of
from miniclip.index.milvus_schema import (
    MOST_MODELS,
    WORDS,
    Names,
    exact_index,
    graph_index,
    images_fields,
    model_key,
    values_fields,
    vectors_fields,
    words_index,
)
from miniclip.index.milvus_search import Search
from miniclip.index.milvus_texts import Texts
from miniclip.index.milvus_values import Values
from miniclip.index.milvus_writer import IMAGE_FIELDS, Writer
from miniclip.index.store import (
    Filter,
    ImageRecord,
    Known,
    Model,
    NewImage,
    Scored,
    ScoredText,
)
from miniclip.index.store_checks import (
    check_contents,
    check_model,
    check_places,
    check_query,
    check_top,
    check_vectors,
    no_vector,
)


class MilvusStore:
    """An open index; see `Store` for the methods, and use it as a context manager."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._values = Values(connection, names.settings)
        self._images = Images(connection, names, self._values)
        self._search = Search(connection, names, self._images)
        self._texts: dict[str, Texts] = {}  # of every model, by its key
        self._model: Model | None = None
        self._writer: Writer | None = None
        self._writing = RLock()
        self._resources = ExitStack()

    @classmethod
    def open(cls, target: str, name: str, *, write: bool = False, rebuild: bool = False) -> Self:
        """Open the index of this name at a server ("http://host:19530") or in a directory.

        To write: as the only writer of this machine, making the index if needed. rebuild: begin
        empty (needs write). StoreError when there is no index to read or no Milvus;
        LockedStoreError when another process writes or has the directory; MissingExtraError
        without pymilvus.
        """
        names = Names(name)
        with ExitStack() as stack:
            if write:
                locks = (
                    cache_dir() / "locks" / hashlib.sha256(f"{target}#{name}".encode()).hexdigest()
                )
                locks.mkdir(parents=True, exist_ok=True)
                stack.callback(WriterLock.take(locks, f"{target}#{name}").release)
            connection = Connection.open(target)
            stack.callback(connection.close)
            store = cls(connection, names)
            store._prepare(write=write, rebuild=rebuild)
            store._resources = stack.pop_all()
        return store

    # Models and settings

    def models(self) -> dict[Model, int]:
        return {
            model: self._connection.count(self._names.vectors(key))
            for key, model in self._models().items()
        }

    def use_model(self, model: Model) -> None:
        models = self._models()
        writer = self._writer
        if not check_model(model, models.values(), self._connection.target, may_add=bool(writer)):
            self._add(model, len(models))
        self._texts = {
            key: Texts(self._connection, self._names, one) for key, one in self._models().items()
        }
        self._model = model

    def settings(self) -> dict[str, str]:
        return self._values.get("setting")

    def remember(self, settings: Mapping[str, str]) -> None:
        with self._write():
            self._values.put("setting", settings)

    # Writing

    def upsert(self, images: Sequence[NewImage], vectors: FloatArray) -> list[int]:
        model = self._chosen()
        check_vectors(vectors, [image.place for image in images], model)
        check_places(images)
        with self._write() as writer:
            there = writer.occupants([image.place for image in images], IMAGE_FIELDS)
            fresh = iter(writer.new_ids(len(images)))
            ids = [
                there[image.place]["id"] if image.place in there else next(fresh)
                for image in images
            ]
            if images:
                writer.change(
                    dict(zip(ids, images, strict=True)),
                    {row["id"]: row for row in there.values()},
                    vectors=dict(zip(ids, _kept(vectors), strict=True)),
                    model=model_key(model),
                )
        return ids

    def update(self, images: Mapping[int, NewImage]) -> None:
        check_places(images.values())
        with self._write() as writer:
            before = self._images.rows(list(images))
            contents = {number: bytes.fromhex(row["content"]) for number, row in before.items()}
            check_contents(images, contents)
            there = writer.occupants([image.place for image in images.values()], IMAGE_FIELDS)
            gone = {row["id"]: row for row in there.values() if row["id"] not in images}
            if images:
                writer.change(images, before | gone, vectors={}, model="", gone=list(gone))

    def delete(self, ids: Collection[int]) -> None:
        with self._write() as writer:
            rows = self._images.rows(list(ids))
            if rows:
                writer.change({}, rows, vectors={}, model="", gone=list(rows))

    def optimise(self) -> None:
        with self._write():
            for key in self._texts:
                self._connection.settle(self._names.vectors(key))
            self._connection.settle(self._names.images)

    # Reading

    def known(self) -> Iterator[Known]:
        self._check_open()
        return self._images.known(model_key(self._model) if self._model else "")

    def ids(self, where: Filter | None = None) -> IntArray:
        return self._images.ids(where)

    def count(self, where: Filter | None = None) -> int:
        return self._images.count(where)

    def records(self, ids: Sequence[int]) -> list[ImageRecord]:
        return [record_of(row, number) for number, row in self._images.rows(ids).items()]

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        model = self._chosen()
        found = {
            int(row["id"]): vector
            for row, vector in self._images.with_vectors(ids, model_key(model))
        }
        for number in map(int, ids):
            if number not in found:
                raise no_vector("image", number, model)
        return _rows([found[int(number)] for number in ids], model)

    def embedded(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        model = self._chosen()
        found = self._images.with_vectors(ids, model_key(model))
        records = [record_of(row, row["id"]) for row, _ in found]
        return records, _rows([vector for _, vector in found], model)

    def verify(self) -> int:
        """Compare every vector of the model with its image; return the number of these.

        StoreError when an image lacks the vector that it names.
        """
        model = self._chosen()
        count = 0
        for page in self._images.pages("", IMAGE_FIELDS):
            having = [row["id"] for row in page if model_key(model) in row["models"]]
            self.vectors(having)
            count += len(having)
        return count + sum(len(texts) for texts, _ in self.embedded_texts())

    # Searching

    def nearest(
        self,
        query: FloatArray,
        *,
        top: int,
        where: Filter | None = None,
        exclude: Collection[int] = (),
    ) -> list[Scored]:
        check_top(top)
        model = self._chosen()
        check_query(query, model)
        if top > MOST_HITS:
            raise ConfigError(
                f"top is {top}; Milvus gives at most {MOST_HITS} results, so ask for fewer"
            )
        return self._search.nearest(query, model_key(model), top=top, where=where, exclude=exclude)

    def full_text(self, words: str, *, top: int, where: Filter | None = None) -> list[int]:
        check_top(top)
        return self._search.full_text(words, top=top, where=where)

    # Captions

    def texts_to_embed(self, limit: int) -> list[str]:
        texts = self._texts[model_key(self._chosen())]
        if self._writer is None:
            return texts.to_embed(limit, tidy=False)
        with self._write():
            return texts.to_embed(limit, tidy=True)

    def add_text_vectors(self, texts: Sequence[str], vectors: FloatArray) -> None:
        model = self._chosen()
        check_vectors(vectors, texts, model)
        with self._write():
            self._texts[model_key(model)].name(texts, _kept(vectors))

    def embedded_texts(self) -> Iterator[tuple[list[str], FloatArray]]:
        return self._texts[model_key(self._chosen())].pages()

    def nearest_texts(self, query: FloatArray, *, top: int) -> list[ScoredText]:
        check_top(top)
        model = self._chosen()
        check_query(query, model)
        return self._texts[model_key(model)].nearest(query, top)

    def close(self) -> None:
        with self._writing:
            writer, self._writer = self._writer, None
            try:
                if writer:
                    writer.close()
            finally:
                self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self, *, write: bool, rebuild: bool) -> None:
        """Find the index; to write: make it, and end what a killed writer began."""
        connection, names = self._connection, self._names
        there = {name for name in connection.collections() if names.owns(name)}
        if rebuild:
            for name in there:
                connection.drop(name)
            there = set()
        if not write and names.settings not in there:
            raise StoreError(
                f"there is no index {names.index} at {connection.target}; make one with "
                "miniclip index --store"
            )
        if not write:
            return
        create: dict[str, Callable[[], None]] = {
            names.places: lambda: connection.create(
                names.places, values_fields(), exact_index("nothing"), None
            ),
            names.images: lambda: connection.create(
                names.images, images_fields(), words_index(), WORDS
            ),
            # The last: it tells readers that there is an index.
            names.settings: lambda: connection.create(
                names.settings, values_fields(), exact_index("nothing"), None
            ),
        }
        for name, make in create.items():
            if name not in there:
                make()
        self._texts = {key: Texts(connection, names, one) for key, one in self._models().items()}
        self._writer = Writer(connection, names, self._values, lambda: self._texts)

    def _models(self) -> dict[str, Model]:
        return {key: Model(**json.loads(value)) for key, value in self._values.get("model").items()}

    def _add(self, model: Model, held: int) -> None:
        """Make the collections of a new model, then name it."""
        if held == MOST_MODELS:
            raise StoreError(
                f"the index holds vectors of {held} models, the most there can be; make another"
            )
        with self._write():
            key = model_key(model)
            name = self._names.vectors(key)
            if name in self._connection.collections():  # of a writer that was killed
                self._connection.drop(name)
            index = exact_index if self._connection.is_lite else graph_index
            self._connection.create(name, vectors_fields(model.dim), index("vector"), None)
            texts = Texts(self._connection, self._names, model)
            texts.create()
            for page in self._images.pages("array_length(captions) > 0", ["id", "captions"]):
                texts.expect({text: row["id"] for row in page for text in row["captions"]})
            self._values.put("model", {key: json.dumps(asdict(model))})

    @contextmanager
    def _write(self) -> Iterator[Writer]:
        with self._writing:
            if self._writer is None:
                self._check_open()
                raise StoreError(
                    f"the index {self._connection.target} was opened for reading only; "
                    "open it to write"
                )
            yield self._writer

    def _chosen(self) -> Model:
        self._check_open()
        if self._model is None:
            raise StoreError("no model is chosen; call use_model first")
        return self._model

    def _check_open(self) -> None:
        self._connection.check_open()


def _kept(vectors: FloatArray) -> FloatArray:
    """Round to float16, as every store keeps them."""
    return vectors.astype(np.float16).astype(np.float32)


def _rows(vectors: Sequence[FloatArray], model: Model) -> FloatArray:
    """Stack vectors (D,) to unit rows (n, D)."""
    return unit_rows(np.stack(vectors)) if vectors else np.empty((0, model.dim), np.float32)


def holds_index(target: str, name: str) -> bool:
    """Whether there is an index of this name; StoreError when there is no Milvus to ask."""
    if not is_server(target) and not Path(target).is_dir():
        return False
    with closing(Connection.open(target)) as connection:
        return Names(name).settings in connection.collections()
