"""The database file of an index: its tables, how to open it, and what its errors mean.

A reader sees one state of the whole file from its first question to its last (WAL), whatever a
writer does meanwhile. It keeps no images and no vectors itself; `sqlite_store` does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from miniclip.errors import StoreError
from miniclip.index.store import REBUILD, DamagedStoreError

DATABASE_FILE = "index.sqlite3"
BUSY_SECONDS = 60.0

# Step i leads from version i to i + 1 (PRAGMA user_version). Never edit a step, append one.
MIGRATIONS = (
    (
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE models (
            id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
            dim INTEGER NOT NULL
        )""",
        # AUTOINCREMENT: the id of a deleted image is never given to another.
        """CREATE TABLE images (
            id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, member BLOB NOT NULL,
            content BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            width INTEGER NOT NULL, height INTEGER NOT NULL, taken TEXT, camera TEXT,
            latitude REAL, longitude REAL, UNIQUE (path, member)
        )""",
        """CREATE TABLE tags (
            image INTEGER NOT NULL, position INTEGER NOT NULL, tag TEXT NOT NULL,
            PRIMARY KEY (image, position)
        ) WITHOUT ROWID""",
        "CREATE TABLE texts (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL UNIQUE)",
        """CREATE TABLE captions (
            image INTEGER NOT NULL, position INTEGER NOT NULL, text INTEGER NOT NULL,
            PRIMARY KEY (image, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX captions_by_text ON captions (text)",
        """CREATE VIRTUAL TABLE words USING fts5 (
            place, captions, tags, tokenize = "unicode61 remove_diacritics 2"
        )""",
        # A matrix: a file of vectors, of images or of texts, by one model; the first `slots` rows
        # count. revision: changes with whatever a reader may have remembered of it.
        """CREATE TABLE matrices (
            id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, kind TEXT NOT NULL,
            file TEXT NOT NULL, slots INTEGER NOT NULL, revision INTEGER NOT NULL,
            graph TEXT, graph_slots INTEGER, graph_check TEXT, UNIQUE (model, kind)
        )""",
        # item: an image or a text. seal: a checksum over whose vector it is and the vector.
        """CREATE TABLE vectors (
            matrix INTEGER NOT NULL, item INTEGER NOT NULL, slot INTEGER NOT NULL,
            seal INTEGER NOT NULL, PRIMARY KEY (matrix, item)
        ) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX vectors_by_slot ON vectors (matrix, slot)",
        # Rows of a matrix that belong to nobody any more: every slot is in `vectors` or in here.
        """CREATE TABLE dead (
            matrix INTEGER NOT NULL, slot INTEGER NOT NULL, PRIMARY KEY (matrix, slot)
        ) WITHOUT ROWID""",
    ),
)

# What the surroundings cause.
_SURROUNDINGS = {
    None: "it was closed meanwhile; open it again",  # by another thread: not an error of SQLite
    sqlite3.SQLITE_BUSY: "another process holds it; try again when that has ended",
    sqlite3.SQLITE_CANTOPEN: "check that it is there and its permissions",
    sqlite3.SQLITE_FULL: "free some disk, then run the same command again: it goes on",
    sqlite3.SQLITE_IOERR: "check the disk, free some of it, then run the same command again",
    sqlite3.SQLITE_READONLY: "check the permissions of its folder",
    sqlite3.SQLITE_PERM: "check its permissions",
    sqlite3.SQLITE_NOMEM: "free some memory",
    sqlite3.SQLITE_PROTOCOL: "many processes open it at once; try again",
    sqlite3.SQLITE_TOOBIG: "a value is longer than the database takes; shorten it",
    sqlite3.SQLITE_INTERRUPT: "it was interrupted; try again",
}
# What opening for reading may run into where no file can be made beside the database.
_NO_ROOM = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
)


class NewerVersionError(StoreError):
    """A database in a format that this miniclip does not know yet."""


class StillConnection(sqlite3.Connection):
    """Reads a database beside which there is no room, not even for a lock, as if no one wrote.

    What it says counts only if `is_still` afterwards.
    """

    path: Path
    seen: tuple[int, int]

    def is_still(self) -> bool:
        """Whether nobody has written since it was opened."""
        return self.seen == _state(self.path) and not _has_log(self.path)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite about the database at `path` into StoreError or DamagedStoreError."""
    try:
        yield
    except sqlite3.Error as error:
        cure = _SURROUNDINGS.get(_code(error))
        if cure:
            raise StoreError(f"cannot use the index {path} ({error}); {cure}") from error
        raise DamagedStoreError(f"the index {path} is damaged ({error}); {REBUILD}") from error


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the database; to write: make or migrate it if needed.

    The connection may be closed, and is otherwise not to be used, by other threads. On a full disk
    or one that cannot be written to, a reader may get a `StillConnection`. StoreError when there is
    no index to read, or one of another version.
    """
    if not write and not os.path.exists(path):
        raise StoreError(f"there is no index at {path.parent}; make one with miniclip index")
    with translated(path):
        try:
            return _open(path, "rwc" if write else "rw")
        except sqlite3.OperationalError as error:
            if write or _code(error) not in _NO_ROOM or _has_log(path):
                raise
            return _open(path, "ro&immutable=1", StillConnection)


def _open(
    path: Path, mode: str, kind: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    seen = _state(path) if kind is StillConnection else (0, 0)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=kind,
    )
    try:
        if isinstance(connection, StillConnection):
            connection.path, connection.seen = path, seen
        if mode == "rwc":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what is committed is on the disk
            if _version(connection) < len(MIGRATIONS):
                _migrate(connection, path)
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _state(path: Path) -> tuple[int, int]:
    """Return what changes when the database itself is written; FileNotFoundError if it is gone."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _has_log(path: Path) -> bool:
    """Whether there is something that is not in the database itself yet."""
    log = path.with_name(f"{path.name}-wal")
    return os.path.exists(log) and log.stat().st_size > 0


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):
        version = _version(connection)  # once more, now that nobody else can change it
        _check_ours(connection, path, version)
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise NewerVersionError(
            f"{path} was written by a newer miniclip (format {version}, this one knows "
            f"{len(MIGRATIONS)}); upgrade miniclip, or {REBUILD}"
        )
    _check_ours(connection, path, version)
    if version < len(MIGRATIONS):
        raise StoreError(
            f"the index at {path.parent} is not ready for this miniclip (format {version} of "
            f"{len(MIGRATIONS)}); run miniclip index on its folder once"
        )


def _check_ours(connection: sqlite3.Connection, path: Path, version: int) -> None:
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise DamagedStoreError(f"{path} is a database, but no index of miniclip; {REBUILD}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write all or nothing: durable when the block has ended without an error."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back on an error
        yield connection


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Read one state of the whole database, whatever others write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.rollback()
