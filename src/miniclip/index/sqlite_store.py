"""`Store` on one machine: an SQLite database beside files of vectors, in one directory.

    index.sqlite3                  all but the vectors (sqlite_schema.py)
    vectors-MODEL-UNIQUE.f16       float16 rows, mapped, one file per model and kind
    graph-MODEL-UNIQUE.usearch     a graph over them, once there are very many (sqlite_upkeep.py)
    writer.lock, writer.json       who writes (lock.py); who reads and writes: sqlite_database.py

Every change is one transaction whose vectors are on the disk before it (sqlite_vectors.py), so a
kill at any moment leaves the state before or after. Any number of threads may use one object.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import StoreError
from miniclip.index import sqlite_images as images_of
from miniclip.index.sqlite_database import Database
from miniclip.index.sqlite_filter import condition
from miniclip.index.sqlite_schema import transaction
from miniclip.index.sqlite_upkeep import GRAPH_FROM, optimise, tidy
from miniclip.index.sqlite_vectors import VectorTable, bury
from miniclip.index.store import (
    REBUILD,
    DamagedStoreError,
    Filter,
    ImageRecord,
    Known,
    Model,
    NewImage,
    Place,
    Scored,
    ScoredText,
)
from miniclip.index.store_checks import check_model, check_places, check_top, check_vectors

_PAGE = 1024  # images that `known` fetches at a time


class SqliteStore:
    """An open index; see `Store` for the methods, and use it as a context manager."""

    def __init__(self, directory: Path, database: Database, graph_from: int) -> None:
        self._directory = directory
        self._database = database
        self._graph_from = graph_from
        self._images: VectorTable | None = None
        self._texts: VectorTable | None = None
        self._model: Model | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        write: bool = False,
        rebuild: bool = False,
        graph_from: int = GRAPH_FROM,
    ) -> Self:
        """Open the index in a directory; to write: as the only writer, making it if needed.

        rebuild: begin empty, whatever there is, even if that is damaged (needs write).
        graph_from: number of vectors from which `optimise` makes a graph.
        StoreError when there is no index to read, LockedStoreError when another process writes.
        """
        database = Database.open(directory, write=write)
        try:
            if rebuild:
                database.reset(images_of.clear)
            if write:
                with database.write() as db:
                    tidy(db, directory)
        except BaseException:
            database.close()
            raise
        return cls(directory, database, graph_from)

    # Models and settings

    def models(self) -> dict[Model, int]:
        def answer(db: sqlite3.Connection) -> dict[Model, int]:
            found = db.execute(
                "SELECT fingerprint, name, dim, (SELECT count(*) FROM vectors WHERE matrix = "
                "(SELECT id FROM matrices WHERE model = models.id AND kind = 'image')) FROM models"
            )
            return {Model(*row[:3]): row[3] for row in found}

        return self._database.read(answer)

    def use_model(self, model: Model) -> None:
        check_model(model, self.models(), self._directory, may_add=self._database.writable)
        images = VectorTable(self._directory, "image", model)
        texts = VectorTable(self._directory, "text", model)
        if self._database.writable:
            with self._database.write() as db, transaction(db):
                db.execute(
                    "INSERT OR IGNORE INTO models (fingerprint, name, dim) VALUES (?, ?, ?)",
                    (model.fingerprint, model.name, model.dim),
                )
                images.prepare(db)
                texts.prepare(db)
        self._model, self._images, self._texts = model, images, texts

    def settings(self) -> dict[str, str]:
        return self._database.read(lambda db: dict(db.execute("SELECT name, value FROM settings")))

    def remember(self, settings: Mapping[str, str]) -> None:
        with self._database.write() as db, transaction(db):
            db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", settings.items())

    # Writing

    def upsert(self, images: Sequence[NewImage], vectors: FloatArray) -> list[int]:
        table, model = self._image_table()
        check_vectors(vectors, [image.place for image in images], model)
        check_places(images)
        if not images:
            return []
        with self._database.write() as db:
            kept = table.write(db, vectors)
            with transaction(db):
                ids, altered = images_of.put(db, images)
                bury(db, altered, kind="image", spare=table.matrix_id(db))
                table.name(db, ids, [image.content for image in images], kept)
        return ids

    def update(self, images: Mapping[int, NewImage]) -> None:
        check_places(images.values())
        with self._database.write() as db, transaction(db):
            images_of.replace(db, images)

    def delete(self, ids: Collection[int]) -> None:
        with self._database.write() as db, transaction(db):
            images_of.delete(db, ids)

    def optimise(self) -> None:
        with self._database.write() as db:
            optimise(db, self._directory, graph_from=self._graph_from)

    # Reading

    def known(self) -> Iterator[Known]:
        last: Place | None = None
        while True:
            page = self._database.read(partial(self._known_page, after=last))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].place

    def ids(self, where: Filter | None = None) -> IntArray:
        which = condition(where)
        found = self._database.read(
            lambda db: db.execute(
                f"SELECT id FROM images WHERE {which.sql} ORDER BY id", which.values
            ).fetchall()
        )
        return np.array(found, dtype=np.int64).reshape(-1)

    def count(self, where: Filter | None = None) -> int:
        which = condition(where)
        query = f"SELECT count(*) FROM images WHERE {which.sql}"
        return int(self._database.read(lambda db: db.execute(query, which.values).fetchone()[0]))

    def records(self, ids: Sequence[int]) -> list[ImageRecord]:
        return self._database.read(lambda db: images_of.records(db, ids))

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        table, _ = self._image_table()
        return self._database.read(lambda db: table.vectors(db, ids))

    def embedded(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        table, _ = self._image_table()

        def answer(db: sqlite3.Connection) -> tuple[list[ImageRecord], FloatArray]:
            found = images_of.records(db, table.having(db, ids))
            return found, table.vectors(db, [record.id for record in found])

        return self._database.read(answer)

    def verify(self) -> int:
        """Check the database and every vector; return the number of these. DamagedStoreError."""

        def answer(db: sqlite3.Connection) -> int:
            (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedStoreError(
                    f"the index {self._directory} is damaged ({verdict}); {REBUILD}"
                )
            return sum(table.verify(db) for table in (self._images, self._texts) if table)

        return self._database.read(answer)

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
        table, _ = self._image_table()
        which = condition(where) if where else None
        passed = set(exclude)

        def answer(db: sqlite3.Connection) -> list[Scored]:
            among = images_of.slots(db, table.matrix_id(db), which) if which else None
            found = table.nearest(db, query, top=top + len(passed), among=among)
            scored = map(Scored, found.items.tolist(), found.cosines)
            return [hit for hit in scored if hit.id not in passed][:top]

        return self._database.read(answer)

    def full_text(self, words: str, *, top: int, where: Filter | None = None) -> list[int]:
        check_top(top)
        return self._database.read(lambda db: images_of.full_text(db, words, top, condition(where)))

    # Captions

    def texts_to_embed(self, limit: int) -> list[str]:
        table, _ = self._text_table()
        query = (
            "SELECT text FROM texts WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE matrix = ? "
            "AND item = texts.id) ORDER BY id LIMIT ?"
        )
        return self._database.read(
            lambda db: [text for (text,) in db.execute(query, (table.matrix_id(db), limit))]
        )

    def add_text_vectors(self, texts: Sequence[str], vectors: FloatArray) -> None:
        table, model = self._text_table()
        check_vectors(vectors, texts, model)
        number_of = self._database.read(lambda db: images_of.text_ids(db, texts))
        rows = {number_of[text]: row for row, text in enumerate(texts) if text in number_of}
        if not rows:
            return
        owners = [texts[row].encode() for row in rows.values()]
        with self._database.write() as db:
            kept = table.write(db, vectors[list(rows.values())])
            with transaction(db):
                table.name(db, list(rows), owners, kept)

    def embedded_texts(self) -> Iterator[tuple[list[str], FloatArray]]:
        table, _ = self._text_table()

        def page(db: sqlite3.Connection) -> tuple[list[int], list[str], FloatArray]:
            numbers = table.items(db, after=last, limit=_PAGE)
            return numbers, images_of.texts(db, numbers), table.vectors(db, numbers)

        last = 0
        while (found := self._database.read(page))[0]:
            yield found[1:]
            last = found[0][-1]

    def nearest_texts(self, query: FloatArray, *, top: int) -> list[ScoredText]:
        check_top(top)
        table, _ = self._text_table()

        def answer(db: sqlite3.Connection) -> list[ScoredText]:
            found = table.nearest(db, query, top=top)
            texts = images_of.texts(db, found.items[:top].tolist())
            return [
                ScoredText(text, cosine) for text, cosine in zip(texts, found.cosines, strict=False)
            ]

        return self._database.read(answer)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _known_page(self, db: sqlite3.Connection, *, after: Place | None) -> list[Known]:
        matrix = self._images.matrix_id(db) if self._images else -1
        return images_of.known(db, after, _PAGE, matrix)

    def _image_table(self) -> tuple[VectorTable, Model]:
        if self._images is None or self._model is None:
            raise StoreError("no model is chosen; call use_model first")
        return self._images, self._model

    def _text_table(self) -> tuple[VectorTable, Model]:
        if self._texts is None or self._model is None:
            raise StoreError("no model is chosen; call use_model first")
        return self._texts, self._model
