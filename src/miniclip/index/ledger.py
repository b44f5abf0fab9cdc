"""Images of a store by place and by content, in a temporary database: memory stays flat.

A comparison with the disk takes it like a roll call: every image is missed until it is met or
excused. The ledger reads neither the disk nor the store; what it says is what it was told.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from miniclip.index.store import Known, Place

_PAGE = 1024  # images that are in memory at a time
_COLUMNS = "id, path, member, size, mtime_ns, content, embedded"
_MET, _MISSED, _LOST = 0, 1, 2
_HERE = "path = ? AND member = ?"


class Ledger:
    """A table of images in a database of `scratch`."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self._db = db
        self._name = name
        self._by_content = False
        db.execute(
            f"CREATE TABLE {name} (path BLOB, member BLOB, id INTEGER, size INTEGER, "
            "mtime_ns INTEGER, content BLOB, embedded INTEGER, state INTEGER, "
            "PRIMARY KEY (path, member)) WITHOUT ROWID"
        )

    def add(self, images: Iterable[Known], *, missed: bool = False) -> None:
        """Take images in, in the place of any at the same places."""
        state = _MISSED if missed else _MET
        self._db.executemany(
            f"INSERT OR REPLACE INTO {self._name} ({_COLUMNS}, state) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, {state})",
            (
                (number, *_key(place), size, mtime_ns, content, embedded)
                for number, place, size, mtime_ns, content, embedded in images
            ),
        )

    def remove(self, places: Iterable[Place]) -> None:
        """Forget what is at these places."""
        self._db.executemany(f"DELETE FROM {self._name} WHERE {_HERE}", map(_key, places))

    def __len__(self) -> int:
        return self._count("1", ())

    def at(self, place: Place) -> Known | None:
        """Return the image at a place."""
        return next(self._select(_HERE, _key(place)), None)

    def of(self, content: bytes) -> Known | None:
        """Return an image of this content that has a vector."""
        self._index_contents()
        return next(self._select("content = ? AND embedded LIMIT 1", (content,)), None)

    def below(self, folders: Sequence[str]) -> Iterator[list[Known]]:
        """Iterate over the images in some folders, page by page; those seen may be removed."""
        return self._pages(*_below(folders))

    # The roll call

    def meet(self, place: Place, size: int, mtime_ns: int) -> bool:
        """Note that a file is there; return whether it is as it was, and has a vector."""
        key = _key(place)
        met = f"UPDATE {self._name} SET state = {_MET} WHERE {_HERE}"
        same = f"{met} AND size = ? AND mtime_ns = ? AND embedded"
        if self._db.execute(same, (*key, size, mtime_ns)).rowcount:
            return True
        self._db.execute(met, key)
        return False

    def excuse(self, folders: Sequence[str]) -> int:
        """Miss no image in these folders; return how many were missed there."""
        return self._excuse(*_below(folders))

    def excuse_others(self, folders: Sequence[str]) -> int:
        """Miss no image outside these folders; return how many were missed there."""
        below, values = _below(folders)
        return self._excuse(f"NOT {below}", values)

    def find(self, place: Place) -> None:
        """Miss the image of this place no more: it lies elsewhere."""
        self._set(place, _MET)

    def lose(self, place: Place) -> None:
        """Miss the image of this place, whose file is there but cannot be read any more."""
        self._set(place, _LOST)

    def missed(self) -> Iterator[list[Known]]:
        """Iterate over all images that are missed, page by page."""
        return self._pages(f"state != {_MET}", ())

    def count_missed(self, folders: Sequence[str]) -> int:
        """Count the images in these folders that are missed."""
        below, values = _below(folders)
        return self._count(f"state != {_MET} AND {below}", values)

    def twins(self, content: bytes) -> list[Known]:
        """Return the images of this content that have a vector but no file."""
        self._index_contents()
        where = f"content = ? AND embedded AND state = {_MISSED} ORDER BY path, member"
        return list(self._select(where, (content,)))

    # In SQL

    def _index_contents(self) -> None:
        """Sort by content when first asked: a comparison that finds nothing new never asks."""
        if not self._by_content:
            self._db.execute(
                f"CREATE INDEX {self._name}_by_content ON {self._name} (content) WHERE embedded"
            )
            self._by_content = True

    def _excuse(self, where: str, values: Sequence[bytes]) -> int:
        change = f"UPDATE {self._name} SET state = {_MET} WHERE state != {_MET} AND {where}"
        return self._db.execute(change, values).rowcount

    def _set(self, place: Place, state: int) -> None:
        self._db.execute(f"UPDATE {self._name} SET state = {state} WHERE {_HERE}", _key(place))

    def _count(self, where: str, values: Sequence[bytes]) -> int:
        query = f"SELECT count(*) FROM {self._name} WHERE {where}"
        return int(self._db.execute(query, values).fetchone()[0])

    def _pages(self, where: str, values: Sequence[bytes]) -> Iterator[list[Known]]:
        behind = f"{where} AND (path, member) > (?, ?) ORDER BY path, member LIMIT {_PAGE}"
        last = b"", b""
        while page := list(self._select(behind, (*values, *last))):
            yield page
            last = _key(page[-1].place)

    def _select(self, where: str, values: Sequence[bytes]) -> Iterator[Known]:
        query = f"SELECT {_COLUMNS} FROM {self._name} WHERE {where}"
        return map(_image, self._db.execute(query, values).fetchall())


def _below(folders: Sequence[str]) -> tuple[str, list[bytes]]:
    """Return a condition in SQL, and its values, for what lies in any of the folders."""
    parts, values = ["0"], []
    for folder in folders:
        if folder == os.curdir:  # the folder of them all
            return "(1)", []
        inside = os.fsencode(folder.rstrip(os.sep) + os.sep)
        parts.append("path = ? OR (path > ? AND path < ?)")
        values += [os.fsencode(folder), inside, inside[:-1] + bytes([inside[-1] + 1])]
    return f"({' OR '.join(parts)})", values


def _key(place: Place) -> tuple[bytes, bytes]:
    return os.fsencode(place.path), os.fsencode(place.member)


def _image(row: tuple[Any, ...]) -> Known:
    number, path, member, size, mtime_ns, content, embedded = row
    place = Place(os.fsdecode(path), os.fsdecode(member))
    return Known(number, place, size, mtime_ns, content, bool(embedded))
