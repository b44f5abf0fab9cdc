"""Every kind of store, to be opened in an empty directory; whatever implements `Store` is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from miniclip.index.milvus_store import MilvusStore
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Model
from tests.index.store_values import BEACH

AnyStore = SqliteStore | MilvusStore


@dataclass(frozen=True)
class Home:
    """Where a store of one kind lies; other processes can be told.

    many_processes: whether several have it open at once, and readers see nothing of a killed writer
    before the next writer has tidied up.
    """

    directory: Path
    many_processes: ClassVar[bool] = True

    @classmethod
    def in_(cls, directory: Path) -> Self:
        """Name a place; the test is skipped where what runs this kind is not installed."""
        return cls(directory)

    def open(self, **options: Any) -> AnyStore:
        """Open the store, for writing if it is told write=True."""
        raise NotImplementedError

    def read(self, model: Model = BEACH) -> AnyStore:
        """Open for reading with a model."""
        store = self.open()
        store.use_model(model)
        return store


class SqliteHome(Home):
    """In SQLite."""

    def open(self, **options: Any) -> SqliteStore:
        return SqliteStore.open(self.directory / "index", **options)


class MilvusLiteHome(Home):
    """In Milvus Lite, which has no graph."""

    many_processes = False

    @classmethod
    def in_(cls, directory: Path) -> Self:
        pytest.importorskip("pymilvus")
        pytest.importorskip("milvus_lite")
        return super().in_(directory)

    def open(self, *, graph_from: int = 0, **options: Any) -> MilvusStore:
        return MilvusStore.open(str(self.directory / "index.db"), "photos", **options)


KINDS: dict[str, type[Home]] = {"sqlite": SqliteHome, "milvus-lite": MilvusLiteHome}
