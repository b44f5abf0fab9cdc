"""Reading the images of an index in Milvus: rows by id and by condition, and their vectors.

It reads and never writes. What is read twice may have changed in between: whoever joins an image
with its vector does so by the slot that the image names, and asks again when that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from miniclip.arrays import FloatArray, IntArray
from miniclip.index.filter_rules import holds
from miniclip.index.milvus_connection import MOST_HITS, Connection, Row
from miniclip.index.milvus_filter import expression
from miniclip.index.milvus_rows import COLUMNS, decoded, record_of
from miniclip.index.milvus_schema import Names
from miniclip.index.milvus_values import Values
from miniclip.index.milvus_writer import IMAGE_FIELDS, read_journal, slot_of
from miniclip.index.scratch import scratch
from miniclip.index.store import Filter, Known, Place

_RANGE = 8_192  # ids of one question
_TRIES = 5  # of a reader that meets a writer


class Images:
    """The images as they are at the moment of each question."""

    def __init__(self, connection: Connection, names: Names, values: Values) -> None:
        self._connection = connection
        self._names = names
        self._values = values

    def rows(self, ids: Sequence[int]) -> dict[int, Row]:
        """Return the rows of those images that there are, by id, in the order of ids."""
        found = self._connection.get(self._names.images, "id", set(map(int, ids)), IMAGE_FIELDS)
        by_id = {row["id"]: row for row in found}
        return {int(number): by_id[number] for number in ids if number in by_id}

    def pages(self, where: str, fields: Sequence[str]) -> Iterator[list[Row]]:
        """Iterate over the rows for which an expression holds, by ranges of ids."""
        last = read_journal(self._values).next_id - 1
        for start in range(0, last, _RANGE):
            here = f"id > {start} and id <= {start + _RANGE}"
            said = f"{here} and ({where})" if where else here
            yield self._connection.rows(self._names.images, said, fields)

    def ids(self, where: Filter | None) -> IntArray:
        """Return the ids (N,), ascending, for which the filter holds."""
        said, exact = expression(where)
        if exact and said:  # few, perhaps: then one question does
            few = self._connection.rows(self._names.images, said, ["id"], limit=MOST_HITS)
            pages = iter([few]) if len(few) < MOST_HITS else self.pages(said, ["id"])
        else:
            pages = self.pages(said, ["id"] if exact else ("id", *COLUMNS))
        found = [
            row["id"]
            for page in pages
            for row in page
            if exact or where is None or holds(where, record_of(row, row["id"]))
        ]
        return np.sort(np.array(found, dtype=np.int64))

    def count(self, where: Filter | None) -> int:
        """Count the images for which the filter holds."""
        said, exact = expression(where)
        return self._connection.count(self._names.images, said) if exact else len(self.ids(where))

    def known(self, model: str) -> Iterator[Known]:
        """Iterate over all images in the order of the bytes of their places.

        Milvus does not sort; a temporary file does.
        """
        fields = ("id", "path", "member", "size", "mtime_ns", "content", "models", "slots")
        with scratch() as db:
            db.execute(
                "CREATE TABLE known (path BLOB, member BLOB, id INTEGER, size INTEGER, "
                "mtime_ns INTEGER, content BLOB, embedded INTEGER)"
            )
            for page in self.pages("", fields):
                db.executemany(
                    "INSERT INTO known VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            _bytes(row["path"]), _bytes(row["member"]), row["id"],
                            int(row["size"]), int(row["mtime_ns"]),
                            bytes.fromhex(row["content"]), slot_of(row, model) is not None,
                        )
                        for row in page
                    ],
                )  # fmt: skip
            found = db.execute("SELECT * FROM known ORDER BY path, member")
            for path, member, number, size, mtime_ns, content, embedded in found:
                place = Place(_text(path), _text(member))
                yield Known(number, place, size, mtime_ns, content, bool(embedded))

    def with_vectors(self, ids: Sequence[int], model: str) -> list[tuple[Row, FloatArray]]:
        """Return rows of images and their vectors (D,), in the order of ids; others are left out.

        Both are of one moment for each image.
        """
        joined: dict[int, tuple[Row, FloatArray]] = {}
        missing = list(map(int, ids))
        for _ in range(_TRIES):
            rows = self.rows(missing)
            slots = {slot: number for number, row in rows.items() if (slot := slot_of(row, model))}
            fields = ("slot", "content", "vector")
            for found in self._connection.get(self._names.vectors(model), "slot", slots, fields):
                number = slots[found["slot"]]
                vector = np.asarray(found["vector"], dtype=np.float32)
                if found["content"] == rows[number]["content"]:
                    joined[number] = rows[number], vector
            missing = [number for number in slots.values() if number not in joined]
            if not missing:
                break
        return [joined[number] for number in map(int, ids) if number in joined]

    def current(self, hits: Sequence[Row], model: str) -> list[Row]:
        """Return those rows of vectors that the row of their image names."""
        fields = ("id", "models", "slots")
        ids = {row["image"] for row in hits}
        rows = self._connection.get(self._names.images, "id", ids, fields)
        named = {row["id"]: slot_of(row, model) for row in rows}
        return [row for row in hits if named.get(row["image"]) == row["slot"]]


def _bytes(text: str) -> bytes:
    return decoded(text).encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
