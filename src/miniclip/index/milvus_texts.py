"""The captions of an index in Milvus, and their vectors by one model.

Each caption has a row from before the first image that has it is visible, and until after the last
one is gone; the row names one image as its owner. What no image has does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.index.milvus_connection import MOST_HITS, Connection, Row
from miniclip.index.milvus_filter import quoted
from miniclip.index.milvus_rows import text_key, text_of
from miniclip.index.milvus_schema import Names, exact_index, graph_index, model_key, texts_fields
from miniclip.index.store import Model, ScoredText

_FIELDS = ("key", "text", "owner", "embedded", "vector")
_AT_ONCE = 256  # captions in one expression
_PAGE = 4_096
_CLOSE = 1e-5  # how far apart cosines of Milvus may be that are equal


class Texts:
    """Captions for one model."""

    def __init__(self, connection: Connection, names: Names, model: Model) -> None:
        self._connection = connection
        self._images = names.images
        self._rows = names.texts(model_key(model))
        self._model = model

    def create(self) -> None:
        """Make the collection, anew if it is there."""
        if self._rows in self._connection.collections():
            self._connection.drop(self._rows)
        index = exact_index if self._connection.is_lite else graph_index
        fields = texts_fields(self._model.dim)
        self._connection.create(self._rows, fields, index("vector"), None)

    # Which captions there are

    def expect(self, owners: Mapping[str, int]) -> None:
        """Make rows of captions that have none; owners: caption -> id of an image that has it."""
        keys = {text_key(text): text for text in owners}
        found = self._connection.get(self._rows, "key", keys, ["key"])
        known = {row["key"] for row in found}
        self._connection.put(
            self._rows,
            [
                {
                    "key": key,
                    "text": text,
                    "owner": owners[text],
                    "embedded": False,
                    "vector": np.eye(1, self._model.dim, dtype=np.float32)[0],
                }
                for key, text in keys.items()
                if key not in known
            ],
        )

    def release(self, texts: Collection[str], ids: Collection[int]) -> None:
        """Forget those of the captions that images of these ids owned and no image has now."""
        found = self._connection.get(self._rows, "key", [*map(text_key, texts)], _FIELDS)
        self._release([row for row in found if row["owner"] in ids])

    def release_of(self, ids: Sequence[int]) -> None:
        """Do so for all captions that images of these ids owned."""
        self._release(self._connection.get(self._rows, "owner", ids, _FIELDS))

    # Vectors

    def to_embed(self, limit: int, *, tidy: bool) -> list[str]:
        """Return captions without a vector. tidy: remove those that no image has."""
        while True:
            rows = self._connection.rows(
                self._rows, "embedded == false", ("key", "text", "owner"), limit=limit
            )
            held = self._held(rows)
            if tidy and len(held) < len(rows):
                self._connection.delete(self._rows, [r["key"] for r in rows if r not in held])
                continue
            return [row["text"] for row in held]

    def name(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Give vectors (n, D), rounded to float16, to those of the texts that are captions."""
        found = self._connection.get(self._rows, "key", [*map(text_key, texts)], ("key", "owner"))
        owner_of = {row["key"]: row["owner"] for row in found}
        rows = {
            text_key(text): {
                "key": text_key(text),
                "text": text_of(text),
                "owner": owner_of[text_key(text)],
                "embedded": True,
                "vector": vector,
            }
            for text, vector in zip(texts, vectors, strict=True)
            if text_key(text) in owner_of
        }
        self._connection.put(self._rows, list(rows.values()))

    def pages(self) -> Iterator[tuple[list[str], FloatArray]]:
        """Iterate over captions with vectors, with these (n, D) unit rows."""
        count = self._connection.count(self._rows, "embedded == true")
        digits = next(digits for digits in range(16) if count <= _PAGE * 16**digits)
        for begin in map("".join, product("0123456789abcdef", repeat=digits)):
            where = f'embedded == true and key like "{begin}%"'
            held = self._held(self._connection.rows(self._rows, where, _FIELDS))
            held.sort(key=lambda row: str(row["key"]))
            if held:
                yield (
                    [row["text"] for row in held],
                    unit_rows(np.array([row["vector"] for row in held])),
                )

    def nearest(self, query: FloatArray, top: int) -> list[ScoredText]:
        """Return the captions closest to a query (D,) float32."""
        limit = min(2 * top + 16, MOST_HITS)
        while True:
            rows = self._connection.nearest(
                self._rows, "vector", query,
                top=limit, where="embedded == true", fields=("key", "text", "owner", "vector"),
            )  # fmt: skip
            held = self._held(rows)
            scored = sorted(
                (ScoredText(row["text"], cosine(row["vector"], query)) for row in held),
                key=lambda one: (-one.cosine, one.text),
            )
            if all_seen(rows, limit) or (
                len(scored) >= top and scored[top - 1].cosine > rows[-1]["distance"] + _CLOSE
            ):
                return scored[:top]
            limit = min(4 * limit, MOST_HITS)

    def _held(self, rows: Sequence[Row]) -> list[Row]:
        """Return those rows whose caption an image has."""
        owners = self._connection.get(
            self._images, "id", {row["owner"] for row in rows}, ("id", "captions")
        )
        captions = {row["id"]: set(row["captions"]) for row in owners}
        return [
            row
            for row in rows
            if row["text"] in captions.get(row["owner"], ()) or self._is_caption(row["text"])
        ]

    def _is_caption(self, text: str) -> bool:
        where = f"array_contains(captions, {quoted(text)})"
        return bool(self._connection.rows(self._images, where, ["id"], limit=1))

    def _release(self, rows: Sequence[Row]) -> None:
        lost = {row["text"]: row for row in rows}
        owners = self._owners(list(lost))
        self._connection.put(
            self._rows,
            [
                lost[text] | {"owner": owner}
                for text, owner in owners.items()
                if lost[text]["owner"] != owner
            ],
        )
        gone = lost.keys() - owners.keys()
        self._connection.delete(self._rows, [lost[text]["key"] for text in gone])

    def _owners(self, texts: Sequence[str]) -> dict[str, int]:
        """Find an image for each caption that one has."""
        owners: dict[str, int] = {}
        for start in range(0, len(texts), _AT_ONCE):
            wanted = set(texts[start : start + _AT_ONCE])
            while wanted:
                where = f"array_contains_any(captions, [{', '.join(map(quoted, wanted))}])"
                rows = self._connection.rows(
                    self._images, where, ("id", "captions"), limit=_AT_ONCE
                )
                found = {
                    text: row["id"] for row in rows for text in row["captions"] if text in wanted
                }
                if not found:
                    break
                owners |= found
                wanted -= found.keys()
        return owners


def cosine(vector: Sequence[float], query: FloatArray) -> float:
    """Multiply a stored vector (D,) with a query (D,) in float64."""
    kept = np.asarray(vector, dtype=np.float64)
    return float(min(1.0, (kept * query).sum()))


def all_seen(rows: Sequence[Row], limit: int) -> bool:
    """Whether Milvus has no more to say, or will not."""
    return len(rows) < limit or limit == MOST_HITS
