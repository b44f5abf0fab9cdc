"""The images that are to be read, in the order in which they were listed, on the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from miniclip.index.sources import Seen, State

_PAGE = 1024  # images that are in memory at a time


class Todo:
    """A list of images in a database of `scratch`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute(
            "CREATE TABLE todo (number INTEGER PRIMARY KEY, path BLOB, size INTEGER, "
            "mtime_ns INTEGER, ctime_ns INTEGER, member BLOB, at INTEGER, bytes INTEGER)"
        )

    def append(self, seen: Seen) -> None:
        """Put an image behind the others."""
        self._db.execute(
            "INSERT INTO todo VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (
                os.fsencode(seen.path), *seen.state, os.fsencode(seen.member), seen.offset,
                seen.size,
            ),
        )  # fmt: skip

    def remove(self, numbers: Iterable[int]) -> None:
        """Take images off the list."""
        self._db.executemany("DELETE FROM todo WHERE number = ?", ((one,) for one in numbers))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM todo").fetchone()[0])

    def __iter__(self) -> Iterator[Seen]:
        return (seen for _, seen in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Seen]]:
        """Iterate over the images and their numbers; those seen may be removed meanwhile."""
        query = f"SELECT * FROM todo WHERE number > ? ORDER BY number LIMIT {_PAGE}"
        last = 0
        while page := self._db.execute(query, (last,)).fetchall():
            for number, path, size, mtime_ns, ctime_ns, member, offset, length in page:
                state = State(size, mtime_ns, ctime_ns)
                seen = Seen(Path(os.fsdecode(path)), state, os.fsdecode(member), offset, length)
                yield number, seen
            last = page[-1][0]
