"""Images of a store by place and by content, in a temporary database: memory stays flat.

In a comparison with the disk, images may be met there, or missed where they are expected. The
ledger reads neither the disk nor the store; what it says is what it was told.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from miniclip.index.store import Known, Place

_PAGE = 1024  # images that are in memory at a time
_COLUMNS = "id, path, member, size, mtime_ns, content, embedded"
_UNMET, _MET, _MISSED, _LOST = range(4)
_HERE = "path = ? AND member = ?"
_Condition = tuple[str, Sequence[bytes]]  # in SQL, and its values


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

    def add(self, images: Iterable[Known], *, met: bool = True) -> None:
        """Take images in, in the place of any at the same places."""
        self._insert("REPLACE", images, _MET if met else _UNMET)

    def complete(self, images: Iterable[Known]) -> None:
        """Take in those images at whose places there are none yet, as met."""
        self._insert("IGNORE", images, _MET)

    def remove(self, places: Iterable[Place]) -> None:
        """Forget what is at these places."""
        self._db.executemany(f"DELETE FROM {self._name} WHERE {_HERE}", map(place_key, places))

    def __len__(self) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0])

    def at(self, place: Place) -> Known | None:
        """Return the image at a place."""
        return next(self._select(_HERE, place_key(place)), None)

    def of(self, content: bytes) -> Known | None:
        """Return an image of this content that has a vector."""
        self._index_contents()
        return next(self._select("content = ? AND embedded LIMIT 1", (content,)), None)

    def below(self, folder: str) -> Iterator[list[Known]]:
        """Iterate over the images in a folder, page by page; those seen may be removed."""
        return self._pages(_below(folder))

    # The comparison

    def meet(self, place: Place, size: int, mtime_ns: int) -> bool:
        """Note that a file is there; return whether it is as it was, and has a vector."""
        key = place_key(place)
        met = f"UPDATE {self._name} SET state = {_MET} WHERE {_HERE}"
        same = f"{met} AND size = ? AND mtime_ns = ? AND embedded"
        if self._db.execute(same, (*key, size, mtime_ns)).rowcount:
            return True
        self._db.execute(met, key)
        return False

    def expect(self, folders: Iterable[str]) -> int:
        """Miss the images in these folders that were not met; return how many that are."""
        return sum(self._turn(_UNMET, _MISSED, _below(folder)) for folder in folders)

    def excuse(self, folders: Iterable[str]) -> int:
        """Miss none in these folders; return how many were missed there."""
        return sum(self._turn(_MISSED, _MET, _below(folder)) for folder in folders)

    def find(self, place: Place) -> None:
        """Miss the image of this place no more: it lies elsewhere."""
        self._turn(_MISSED, _MET, (_HERE, place_key(place)))

    def lose(self, place: Place) -> None:
        """Miss the image of this place, whose file is there but cannot be read any more."""
        self._turn(_MET, _LOST, (_HERE, place_key(place)))

    def twins(self, content: bytes) -> list[Known]:
        """Return the images of this content that have a vector but no file."""
        self._index_contents()
        where = f"content = ? AND embedded AND state = {_MISSED} ORDER BY path, member"
        return list(self._select(where, (content,)))

    def missed(self) -> Iterator[list[Known]]:
        """Iterate over all images that are missed, page by page."""
        return self._pages((f"state IN ({_MISSED}, {_LOST})", ()))

    # In SQL

    def _insert(self, conflict: str, images: Iterable[Known], state: int) -> None:
        self._db.executemany(
            f"INSERT OR {conflict} INTO {self._name} ({_COLUMNS}, state) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, {state})",
            (
                (number, *place_key(place), size, mtime_ns, content, embedded)
                for number, place, size, mtime_ns, content, embedded in images
            ),
        )

    def _turn(self, before: int, after: int, which: _Condition) -> int:
        where, values = which
        change = f"UPDATE {self._name} SET state = {after} WHERE state = {before} AND {where}"
        return self._db.execute(change, values).rowcount

    def _index_contents(self) -> None:
        """Sort by content when first asked: a comparison that finds nothing new never asks."""
        if not self._by_content:
            self._db.execute(
                f"CREATE INDEX {self._name}_by_content ON {self._name} (content) WHERE embedded"
            )
            self._by_content = True

    def _pages(self, which: _Condition) -> Iterator[list[Known]]:
        where, values = which
        # IS TRUE: lest the planner finds the rows by another way, and sorts them for every page.
        next_ = f"({where}) IS TRUE AND (path, member) > (?, ?) ORDER BY path, member LIMIT {_PAGE}"
        last = b"", b""
        while page := list(self._select(next_, (*values, *last))):
            yield page
            last = place_key(page[-1].place)

    def _select(self, where: str, values: Sequence[bytes]) -> Iterator[Known]:
        query = f"SELECT {_COLUMNS} FROM {self._name} WHERE {where}"
        return map(_image, self._db.execute(query, values).fetchall())


def place_key(place: Place) -> tuple[bytes, bytes]:
    """Return what places are ordered by."""
    return os.fsencode(place.path), os.fsencode(place.member)


def _below(folder: str) -> _Condition:
    """Return what holds for a folder itself and all below it; "." is the folder of them all."""
    if folder == os.curdir:
        return "1", ()
    first = os.fsencode(folder.rstrip(os.sep) + os.sep)
    behind = first[:-1] + bytes([first[-1] + 1])
    return "(path = ? OR path > ? AND path < ?)", (os.fsencode(folder), first, behind)


def _image(row: tuple[Any, ...]) -> Known:
    number, path, member, size, mtime_ns, content, embedded = row
    place = Place(os.fsdecode(path), os.fsdecode(member))
    return Known(number, place, size, mtime_ns, content, bool(embedded))
