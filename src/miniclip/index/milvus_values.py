"""Values by name in a collection of Milvus, however long: settings, models, a journal.

A value is several rows when it is longer than one may be; `put` writes all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from miniclip.index.milvus_connection import Connection
from miniclip.index.milvus_filter import quoted
from miniclip.index.milvus_rows import LONGEST_TEXT, text_of
from miniclip.index.milvus_schema import NO_VECTOR

_PART = LONGEST_TEXT // 4 - 16  # characters: each of up to four bytes, and the number of parts


class Values:
    """The values of one index."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    def get(self, kind: str) -> dict[str, str]:
        """Return the values of a kind by name."""
        where = f"key like {quoted(f'{kind}:%')}"
        found = self._connection.rows(self._collection, where, ["key", "value"])
        rows = {row["key"]: row["value"] for row in found}
        values = {}
        for key, first in rows.items():
            name, _, part = key.removeprefix(f"{kind}:").rpartition(":")
            if part == "0":
                count, _, begin = first.partition(":")
                rest = (rows[f"{kind}:{name}:{number}"] for number in range(1, int(count)))
                values[name] = "".join((begin, *rest))
        return values

    def put(self, kind: str, values: Mapping[str, str]) -> None:
        """Keep values by name, replacing older ones."""
        rows = []
        for name, text in values.items():
            value = text_of(text)
            parts = [value[start : start + _PART] for start in range(0, len(value), _PART)] or [""]
            parts[0] = f"{len(parts)}:{parts[0]}"
            rows += [
                {"key": f"{kind}:{name}:{number}", "value": part, "nothing": NO_VECTOR}
                for number, part in enumerate(parts)
            ]
        self._connection.put(self._collection, rows)
