"""Every kind of store, to be opened in an empty directory; whatever implements `Store` is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from miniclip.index.milvus_store import MilvusStore
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Model
from tests.index.store_values import BEACH

AnyStore = SqliteStore | MilvusStore


@dataclass(frozen=True)
class Home:
    """Where a store of one kind lies. open: for writing, if it is told write=True."""

    open: Callable[..., AnyStore]

    def read(self, model: Model = BEACH) -> AnyStore:
        """Open for reading with a model."""
        store = self.open()
        store.use_model(model)
        return store


def sqlite(directory: Path) -> Home:
    def opened(**options: Any) -> SqliteStore:
        return SqliteStore.open(directory / "index", **options)

    return Home(opened)


def milvus_lite(directory: Path) -> Home:
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")

    def opened(*, graph_from: int = 0, **options: Any) -> MilvusStore:
        return MilvusStore.open(str(directory / "index.db"), "photos", **options)

    return Home(opened)


KINDS: dict[str, Callable[[Path], Home]] = {"sqlite": sqlite, "milvus-lite": milvus_lite}
