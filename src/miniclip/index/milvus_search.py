"""Searching the images of an index in Milvus, by vector and by words; it writes nothing.

Milvus says what is near; how near exactly, in which order, and whether it counts is decided here.
Equal images come in the order of their ids, so it is asked for more until no other image could be
among the first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.index.filter_rules import holds
from miniclip.index.milvus_connection import MOST_HITS, Connection, Row, one_of
from miniclip.index.milvus_filter import expression
from miniclip.index.milvus_images import Images
from miniclip.index.milvus_rows import COLUMNS, record_of, words
from miniclip.index.milvus_schema import Names
from miniclip.index.milvus_texts import all_seen, cosine
from miniclip.index.store import Filter, Scored

_SPARE = 16  # hits beyond those expected to do
_CLOSE = 1e-5  # how far apart scores of Milvus may be that are equal
_IDS = 8_192  # in one expression


class Search:
    """The search of one index."""

    def __init__(self, connection: Connection, names: Names, images: Images) -> None:
        self._connection = connection
        self._names = names
        self._images = images

    def nearest(
        self,
        query: FloatArray,
        model: str,
        *,
        top: int,
        where: Filter | None,
        exclude: Collection[int],
    ) -> list[Scored]:
        """Return the images closest to a query (D,) by the model of this key."""
        said, exact = expression(where)
        if exact:
            passed = f"not ({one_of('image', exclude)})" if exclude else ""
            both = " and ".join(f"({part})" for part in (said, passed) if part)
            return self._nearest(query, model, top, both)
        left = np.setdiff1d(self._images.ids(where), np.array(list(exclude), dtype=np.int64))
        found = [
            hit
            for start in range(0, len(left), _IDS)
            for hit in self._nearest(
                query, model, top, one_of("image", left[start : start + _IDS].tolist())
            )
        ]
        return sorted(found, key=_best_first)[:top]

    def full_text(self, text: str, *, top: int, where: Filter | None) -> list[int]:
        """Return the images that hold any of the words, best first by BM25."""
        said, exact = expression(where)
        asked = words([text])
        limit = min(2 * top + _SPARE, MOST_HITS)
        while asked:
            rows = self._connection.nearest(
                self._names.images, "ranks", asked,
                top=limit, where=said, fields=("id", *(() if exact else COLUMNS)),
            )  # fmt: skip
            ranks = _ranks(rows)
            hits = [
                (rank, int(row["id"]))
                for rank, row in zip(ranks, rows, strict=True)
                if exact or where is None or holds(where, record_of(row, row["id"]))
            ]
            hits.sort()
            if all_seen(rows, limit) or (len(hits) >= top and hits[top - 1][0] < ranks[-1]):
                return [number for _, number in hits[:top]]
            limit = min(4 * limit, MOST_HITS)
        return []

    def _nearest(self, query: FloatArray, model: str, top: int, where: str) -> list[Scored]:
        limit = min(top + _SPARE, MOST_HITS)
        while True:
            rows = self._connection.nearest(
                self._names.vectors(model), "vector", query,
                top=limit, where=where, fields=("slot", "image", "vector"),
            )  # fmt: skip
            current = self._images.current(rows, model)
            found = [Scored(row["image"], cosine(row["vector"], query)) for row in current]
            found.sort(key=_best_first)
            if all_seen(rows, limit) or (
                len(found) >= top and found[top - 1].cosine > rows[-1]["distance"] + _CLOSE
            ):
                return found[:top]
            limit = min(4 * limit, MOST_HITS)


def _ranks(rows: Sequence[Row]) -> list[int]:
    """Return the rank of each row, the best first; those of equal score share one."""
    ranks: list[int] = []
    for row, before in zip(rows, [None, *rows], strict=False):
        step = before is not None and abs(row["distance"] - before["distance"]) > _CLOSE
        ranks.append((ranks[-1] if ranks else 0) + step)
    return ranks


def _best_first(hit: Scored) -> tuple[float, int]:
    return -hit.cosine, hit.id
