"""Who may use the database of an index, and when: many readers, one writer, any number of threads.

A thread borrows a connection for one question or one change. It knows no tables.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from miniclip.errors import StoreError
from miniclip.index.lock import WriterLock
from miniclip.index.sqlite_schema import (
    DATABASE_FILE,
    NewerVersionError,
    StillConnection,
    connect,
    snapshot,
    transaction,
    translated,
)
from miniclip.index.store import REBUILD, DamagedStoreError

T = TypeVar("T")
_TRIES = 20  # snapshots to take while the files that they name are replaced


class Database:
    """The connections of one process to the database of an index."""

    def __init__(self, directory: Path, lock: WriterLock | None) -> None:
        self._directory = directory
        self._path = directory / DATABASE_FILE
        self._lock = lock
        self._idle: list[sqlite3.Connection] = []  # each used by one thread at a time
        self._closed = False
        self._writing = threading.Lock()

    @classmethod
    def open(cls, directory: Path, *, write: bool) -> Self:
        """Open for reading, or take the writer's lock; the database is touched by its first use.

        StoreError when there is nothing to read or the directory cannot be made, LockedStoreError
        when another process writes.
        """
        if not write:
            database = cls(directory, None)
            with database._borrowed():  # fail now rather than later
                return database
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the directory {directory} ({error.strerror or error}); keep the "
                "index elsewhere with --index"
            ) from error
        return cls(directory, WriterLock.take(directory))

    @property
    def writable(self) -> bool:
        """Whether this process is the writer."""
        return self._lock is not None

    def read(self, answer: Callable[[sqlite3.Connection], T]) -> T:
        """Answer from one snapshot, or from the next if its files were just replaced."""
        gone = self._path
        for _ in range(_TRIES):
            try:
                with self._borrowed() as db, translated(self._path), snapshot(db):
                    try:
                        found = answer(db)
                    except (sqlite3.Error, DamagedStoreError):
                        if not _overtaken(db):
                            raise
                if not _overtaken(db):
                    return found
            except FileNotFoundError as error:
                gone = Path(error.filename)
        raise DamagedStoreError(f"{gone} is missing; {REBUILD}")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection to the one thread that may write now."""
        if not self.writable:
            raise StoreError(f"the index {self._directory} is open for reading only")
        with self._writing, self._borrowed() as db, translated(self._path):
            yield db

    def reset(self, clear: Callable[[sqlite3.Connection], None]) -> None:
        """Empty a sound database, whose readers go on; remove one that cannot be used."""
        try:
            with self.write() as db, transaction(db):
                clear(db)
        except (DamagedStoreError, NewerVersionError):
            self._close_idle()
            for name in (DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm"):
                (self._directory / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all connections and give the lock back; a second time is no error."""
        self._closed = True
        self._close_idle()
        if self._lock:
            self._lock.release()

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise StoreError(f"the index {self._directory} is closed; open it again")
        try:
            db = self._idle.pop()
        except IndexError:
            db = connect(self._path, write=self.writable)  # makes the tables, too
        try:
            yield db
        finally:
            self._idle.append(db)
            if self._closed or isinstance(db, StillConnection):  # closed by another thread
                self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _overtaken(db: sqlite3.Connection) -> bool:
    """Whether what was read counts for nothing, because it was written meanwhile."""
    return isinstance(db, StillConnection) and not db.is_still()
