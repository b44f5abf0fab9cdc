"""Files without an index, searchable like one for the time of one search: paths and vectors only.

It holds no metadata, so it can neither filter nor search words; both need an index.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError
from miniclip.index.search import best_rows
from miniclip.index.store import Filter, ImageRecord, Scored


class LooseFiles:
    """The `Searchable` of some files. embeddings: (N, D) float32 unit rows, row i for path i."""

    def __init__(self, paths: Sequence[Path], embeddings: FloatArray) -> None:
        self._paths, self._embeddings = paths, embeddings

    def nearest(
        self,
        query: FloatArray,
        *,
        top: int,
        where: Filter | None = None,
        exclude: Collection[int] = (),
    ) -> list[Scored]:
        """Return the images closest to the query, exactly."""
        if where is not None:
            _refuse("a condition")
        rows, cosines = best_rows(self._embeddings, query, top=top + len(exclude))
        found = map(Scored, rows, cosines.tolist())
        return [hit for hit in found if hit.id not in exclude][:top]

    def full_text(self, words: str, *, top: int, where: Filter | None = None) -> list[int]:
        """Refuse: there are no words."""
        del words, top, where
        _refuse("a search by words")

    def ids(self, where: Filter | None = None) -> IntArray:
        """Return the numbers of the files, from 0."""
        if where is not None:
            _refuse("a condition")
        return np.arange(len(self._paths), dtype=np.int64)

    def embedded(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        """Return the files and their vectors."""
        rows = list(ids)
        records = [
            ImageRecord(id=row, path=str(self._paths[row]), content=b"", size=0, mtime_ns=0)
            for row in rows
        ]
        return records, self._embeddings[rows]


def _refuse(what: str) -> NoReturn:
    raise ConfigError(f"{what} needs an index; make one with: miniclip index FOLDER")
