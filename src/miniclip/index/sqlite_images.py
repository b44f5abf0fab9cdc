"""Images, their captions and tags in the tables of an SQLite index; functions of one connection.

Those that write are called in a transaction, the others in a snapshot. Vectors are not here, save
that an image or a text that goes lets its own die.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from miniclip.arrays import IntArray
from miniclip.index.sqlite_filter import Condition
from miniclip.index.sqlite_upkeep import new_file
from miniclip.index.sqlite_vectors import bury
from miniclip.index.store import ImageRecord, Known, NewImage, Place
from miniclip.index.store_checks import check_contents

_PLAIN = (
    "content", "size", "mtime_ns", "width", "height", "taken", "camera", "latitude", "longitude",
)  # fmt: skip
_GIVEN = "(SELECT value FROM json_each(?))"  # any number of ids in one parameter


def put(db: sqlite3.Connection, images: Sequence[NewImage]) -> tuple[list[int], list[int]]:
    """Add or replace images by place; return their ids, and those whose content was another."""
    ids, altered = [], []
    for image in images:
        known = db.execute(
            "SELECT id, content FROM images WHERE path = ? AND member = ?", _key(image.place)
        ).fetchone()
        if known is None:
            columns = ("path", "member", *_PLAIN)
            known = db.execute(
                f"INSERT INTO images ({', '.join(columns)}) "
                f"VALUES ({', '.join('?' * len(columns))}) RETURNING id, content",
                (*_key(image.place), *_values(image)),
            ).fetchone()
        elif known[1] != image.content:
            altered.append(known[0])
        ids.append(known[0])
    _describe(db, dict(zip(ids, images, strict=True)))
    return ids, altered


def replace(db: sqlite3.Connection, images: Mapping[int, NewImage]) -> None:
    """Say anew all but the content of images by id; whoever lay at their places goes."""
    found = dict(
        db.execute(f"SELECT id, content FROM images WHERE id IN {_GIVEN}", (_json(images),))
    )
    check_contents(images, found)
    occupants: list[int] = []
    for image in images.values():
        occupants += [
            number
            for (number,) in db.execute(
                "SELECT id FROM images WHERE path = ? AND member = ?", _key(image.place)
            )
            if number not in images
        ]
    delete(db, occupants)
    # Two images may have changed places: first all leave theirs (no path begins with NUL).
    db.execute(f"UPDATE images SET path = x'00' || id WHERE id IN {_GIVEN}", (_json(images),))
    _describe(db, images)


def delete(db: sqlite3.Connection, ids: Collection[int]) -> None:
    """Forget images with all that belongs to them alone."""
    bury(db, ids, kind="image")
    texts = _texts_of(db, ids)
    for table, column in (
        ("captions", "image"), ("tags", "image"), ("words", "rowid"), ("images", "id"),
    ):  # fmt: skip
        db.execute(f"DELETE FROM {table} WHERE {column} IN {_GIVEN}", (_json(ids),))
    _drop_orphans(db, texts)


def _describe(db: sqlite3.Connection, images: Mapping[int, NewImage]) -> None:
    """Write all columns, captions and tags of images that have a row."""
    assignments = ", ".join(f"{column} = ?" for column in ("path", "member", *_PLAIN))
    db.executemany(
        f"UPDATE images SET {assignments} WHERE id = ?",
        [(*_key(image.place), *_values(image), number) for number, image in images.items()],
    )
    old_texts = _texts_of(db, images)
    for table, column in (("captions", "image"), ("tags", "image"), ("words", "rowid")):
        db.execute(f"DELETE FROM {table} WHERE {column} IN {_GIVEN}", (_json(images),))
    captions = [
        (number, position, _text(caption))
        for number, image in images.items()
        for position, caption in enumerate(image.captions)
    ]
    db.executemany(
        "INSERT OR IGNORE INTO texts (text) VALUES (?)", [(text,) for *_, text in captions]
    )
    db.executemany(
        "INSERT INTO captions SELECT ?, ?, id FROM texts WHERE text = ?",
        captions,
    )
    db.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)",
        [
            (number, position, _text(tag))
            for number, image in images.items()
            for position, tag in enumerate(image.tags)
        ],
    )
    db.executemany(
        "INSERT INTO words (rowid, place, captions, tags) VALUES (?, ?, ?, ?)",
        [
            (number, *(_words(parts) for parts in (image.place, image.captions, image.tags)))
            for number, image in images.items()
        ],
    )
    _drop_orphans(db, old_texts)


def _texts_of(db: sqlite3.Connection, ids: Collection[int]) -> list[int]:
    query = f"SELECT DISTINCT text FROM captions WHERE image IN {_GIVEN}"
    return [text for (text,) in db.execute(query, (_json(ids),))]


def _drop_orphans(db: sqlite3.Connection, texts: Collection[int]) -> None:
    """Forget those of the texts that are no image's caption any more, and their vectors."""
    orphans = [
        text
        for (text,) in db.execute(
            f"SELECT id FROM texts WHERE id IN {_GIVEN} "
            "AND NOT EXISTS (SELECT 1 FROM captions WHERE text = texts.id)",
            (_json(texts),),
        )
    ]
    bury(db, orphans, kind="text")
    db.execute(f"DELETE FROM texts WHERE id IN {_GIVEN}", (_json(orphans),))


def known(db: sqlite3.Connection, after: Place | None, limit: int, matrix: int) -> list[Known]:
    """Return a page of images in the order of their places; embedded: in this matrix."""
    behind, values = ("(path, member) > (?, ?)", _key(after)) if after else ("1", ())
    found = db.execute(
        "SELECT id, path, member, size, mtime_ns, content, EXISTS "
        "(SELECT 1 FROM vectors WHERE matrix = ? AND item = images.id) "
        f"FROM images WHERE {behind} ORDER BY path, member LIMIT ?",
        (matrix, *values, limit),
    )
    return [
        Known(number, _place(path, member), size, mtime_ns, content, bool(embedded))
        for number, path, member, size, mtime_ns, content, embedded in found
    ]


def records(db: sqlite3.Connection, ids: Sequence[int]) -> list[ImageRecord]:
    """Return those of the images that there are, in the order of ids."""
    given = (_json(ids),)
    captions: dict[int, list[str]] = defaultdict(list)
    for number, caption in db.execute(
        "SELECT image, texts.text FROM captions JOIN texts ON texts.id = captions.text "
        f"WHERE image IN {_GIVEN} ORDER BY image, position",
        given,
    ):
        captions[number].append(caption)
    tags: dict[int, list[str]] = defaultdict(list)
    for number, tag in db.execute(
        f"SELECT image, tag FROM tags WHERE image IN {_GIVEN} ORDER BY image, position", given
    ):
        tags[number].append(tag)
    found = {}
    for number, path, member, *plain in db.execute(
        f"SELECT id, path, member, {', '.join(_PLAIN)} FROM images WHERE id IN {_GIVEN}", given
    ):
        place = _place(path, member)
        found[number] = ImageRecord(
            id=number,
            path=place.path,
            member=place.member,
            captions=tuple(captions[number]),
            tags=tuple(tags[number]),
            **dict(zip(_PLAIN, plain, strict=True)),
        )
    return [found[number] for number in ids if number in found]


def slots(db: sqlite3.Connection, matrix: int, which: Condition) -> IntArray:
    """Return the slots, ascending, of a matrix of images for which the condition holds."""
    found = db.execute(
        "SELECT slot FROM images JOIN vectors ON matrix = ? AND item = images.id "
        f"WHERE {which.sql} ORDER BY slot",
        (matrix, *which.values),
    ).fetchall()
    return np.array(found, dtype=np.int64).reshape(-1)


def full_text(db: sqlite3.Connection, words: str, top: int, which: Condition) -> list[int]:
    """Rank images by BM25 for any of the words."""
    # A quoted string is a word, or a phrase of its parts; nothing in it is an operator.
    quoted = ['"' + word.replace('"', '""') + '"' for word in words.replace("\0", " ").split()]
    if not quoted:
        return []
    found = db.execute(
        "SELECT images.id FROM words JOIN images ON images.id = words.rowid "
        f"WHERE words MATCH ? AND {which.sql} ORDER BY bm25(words), images.id LIMIT ?",
        (_text(" OR ".join(quoted)), *which.values, top),
    )
    return [number for (number,) in found]


def text_ids(db: sqlite3.Connection, texts: Sequence[str]) -> dict[str, int]:
    """Return the numbers of those texts that are captions."""
    query = f"SELECT text, id FROM texts WHERE text IN {_GIVEN}"
    return dict(db.execute(query, (json.dumps(list(texts)),)))


def texts(db: sqlite3.Connection, ids: Sequence[int]) -> list[str]:
    """Return texts by number."""
    found = dict(db.execute(f"SELECT id, text FROM texts WHERE id IN {_GIVEN}", (_json(ids),)))
    return [found[number] for number in ids]


def clear(db: sqlite3.Connection) -> None:
    """Forget everything but models and settings; readers go on and find nothing."""
    for table in ("images", "captions", "texts", "tags", "words", "vectors", "dead"):
        db.execute(f"DELETE FROM {table}")
    matrices = db.execute(
        "SELECT models.fingerprint, matrices.id FROM matrices JOIN models ON models.id = model"
    ).fetchall()
    db.executemany(
        "UPDATE matrices SET file = ?, slots = 0, graph = NULL, graph_slots = NULL WHERE id = ?",
        [(new_file("vectors", fingerprint), number) for fingerprint, number in matrices],
    )


def _key(place: Place) -> tuple[bytes, bytes]:
    return os.fsencode(place.path), os.fsencode(place.member)


def _place(path: bytes, member: bytes) -> Place:
    return Place(os.fsdecode(path), os.fsdecode(member))


def _values(image: NewImage) -> list[object]:
    values = (getattr(image, column) for column in _PLAIN)
    return [_text(value) if isinstance(value, str) else value for value in values]


def _words(parts: Iterable[str]) -> str:
    return _text(" ".join(parts)).replace("\0", " ")


def _text(text: str) -> str:
    """Replace what has no UTF-8, which the database is made of."""
    return text.encode("utf-8", "replace").decode()


def _json(ids: Iterable[int]) -> str:
    return json.dumps([*map(int, ids)])  # they may come from an array
