"""What is embedded already: an SQLite file of image vectors, keyed by content and by model.

A vector is found again by the sha256 of the image file's bytes and the fingerprint of the encoder,
so a moved, renamed or doubled image costs nothing, and no model gets another one's vector; the
features before the projection likewise, for each view of the image. Facts about an image, which no
model is needed for, are kept as text. One more table remembers which content an unchanged file
(same path, size and modification time) had, so that it need not be read again. Losing this file
loses nothing but time.

Each batch is one transaction: a kill loses at most the batch in flight and leaves nothing to mend.
Several processes may use the file at once (WAL). It knows nothing of images or models.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.errors import StoreError
from miniclip.home import HOME_VARIABLE, cache_dir

FILE_NAME = "vectors.sqlite3"
BUSY_SECONDS = 60.0

# Step i leads from version i to i + 1 (PRAGMA user_version). Never edit a step, append one.
MIGRATIONS = (
    (
        """CREATE TABLE files (
            path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            content BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE vectors (
            content BLOB NOT NULL, model TEXT NOT NULL, embedding BLOB NOT NULL,
            PRIMARY KEY (content, model)
        )""",
    ),
    (
        """CREATE TABLE features (
            content BLOB NOT NULL, model TEXT NOT NULL, view TEXT NOT NULL, features BLOB NOT NULL,
            PRIMARY KEY (content, model, view)
        )""",
        """CREATE TABLE facts (
            content BLOB NOT NULL, version INTEGER NOT NULL, facts TEXT NOT NULL,
            PRIMARY KEY (content, version)
        ) WITHOUT ROWID""",
    ),
)

# What the surroundings cause; any other error of SQLite means that the file is not ours any more.
_SURROUNDINGS = {
    sqlite3.SQLITE_BUSY: "another process holds it; try again when that has ended",
    sqlite3.SQLITE_CANTOPEN: f"check its permissions, or set {HOME_VARIABLE} to another directory",
    sqlite3.SQLITE_FULL: f"free some disk, or set {HOME_VARIABLE} to a directory on another one",
    sqlite3.SQLITE_IOERR: f"check the disk, or set {HOME_VARIABLE} to a directory on another one",
    sqlite3.SQLITE_READONLY: f"check its permissions, or set {HOME_VARIABLE} to another directory",
}


class FileState(NamedTuple):
    """What tells an unchanged file: its absolute path, size in bytes and modification time."""

    path: bytes
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the state; OSError when there is no such file or it may not be seen."""
        status = path.stat()
        return cls(os.fsencode(path.absolute()), status.st_size, status.st_mtime_ns)


class VectorCache:
    """An open cache file. Use as a context manager; every method may raise StoreError."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Open the cache, making or migrating it if needed; default: the user's cache directory."""
        path = path or cache_dir() / FILE_NAME
        with _translated(path):
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def recall_contents(self, states: Collection[FileState]) -> dict[FileState, bytes]:
        """Content digests (32 bytes) of the files unchanged since `remember_contents`."""
        found = self._select(
            "SELECT path, size, mtime_ns, content FROM files WHERE path IN ({marks})",
            [state.path for state in states],
        )
        known = {FileState(path, size, mtime): content for path, size, mtime, content in found}
        return {state: known[state] for state in states if state in known}

    def remember_contents(self, contents: Mapping[FileState, bytes]) -> None:
        """Note the content digest (32 bytes) of each file; replaces what was noted before."""
        rows = [(*state, content) for state, content in contents.items()]
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def load(self, model: str, contents: Collection[bytes]) -> dict[bytes, FloatArray]:
        """Vectors (D,) float32 of those contents that this model (a fingerprint) has embedded."""
        found = self._select(
            "SELECT content, embedding FROM vectors WHERE model = ? AND content IN ({marks})",
            list(contents),
            model,
        )
        return {content: np.frombuffer(blob, dtype="<f4") for content, blob in found}

    def store(self, model: str, vectors: Mapping[bytes, FloatArray]) -> None:
        """Keep the vectors (D,) float32 of one batch, in one transaction."""
        rows = [
            (content, model, np.asarray(vector, dtype="<f4").tobytes())
            for content, vector in vectors.items()
        ]
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def load_features(
        self, model: str, view: str, contents: Collection[bytes]
    ) -> dict[bytes, FloatArray]:
        """Features (F,) float32 of those contents, as this model saw them in this view."""
        found = self._select(
            "SELECT content, features FROM features "
            "WHERE model = ? AND view = ? AND content IN ({marks})",
            list(contents),
            model,
            view,
        )
        return {content: np.frombuffer(blob, dtype="<f4") for content, blob in found}

    def store_features(self, model: str, view: str, features: Mapping[bytes, FloatArray]) -> None:
        """Keep the features (F,) float32 of one batch, in one transaction."""
        rows = [
            (content, model, view, np.asarray(row, dtype="<f4").tobytes())
            for content, row in features.items()
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows
            )

    def load_facts(self, version: int, contents: Collection[bytes]) -> dict[bytes, str]:
        """Facts of those contents, as text, that this version of the code has gathered."""
        found = self._select(
            "SELECT content, facts FROM facts WHERE version = ? AND content IN ({marks})",
            list(contents),
            version,
        )
        return dict(found)

    def store_facts(self, version: int, facts: Mapping[bytes, str]) -> None:
        """Keep the facts of one batch, in one transaction."""
        rows = [(content, version, text) for content, text in facts.items()]
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)

    def count(self, model: str) -> int:
        """How many contents this model (a fingerprint) has embedded."""
        with _translated(self._path):
            query = "SELECT count(*) FROM vectors WHERE model = ?"
            return int(self._connection.execute(query, (model,)).fetchone()[0])

    def close(self) -> None:
        """Close the file; the object cannot be used again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _select(self, query: str, keys: list[bytes], *first: str | int) -> list[tuple[Any, ...]]:
        marks = ", ".join("?" * len(keys))
        with _translated(self._path):
            return self._connection.execute(query.format(marks=marks), (*first, *keys)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:  # commits, or rolls back on an error
                yield


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA page_size = 16384")  # of a new file: a default page wastes half
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode: safe, and fast
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        version = _version(connection)  # once more: another process may have been first
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} was written by a newer miniclip (format {version}, this one knows "
                f"{len(MIGRATIONS)}); upgrade miniclip, or delete the file: it will be rebuilt"
            )
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Wait for others: when two processes switch at once, SQLite refuses despite the timeout."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        cure = _SURROUNDINGS.get(getattr(error, "sqlite_errorcode", -1) & 0xFF)
        if cure:
            raise StoreError(f"cannot use the cache {path} ({error}); {cure}") from error
        raise StoreError(
            f"the cache {path} is damaged ({error}); delete that file, it will be rebuilt"
        ) from error
