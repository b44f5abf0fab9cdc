"""Two models, and images and vectors that follow from a number; for tests of stores."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import (
    Model,
    NewImage,
)

DIM = 16
BEACH = Model("a" * 64, "beach-model", DIM)
CITY = Model("b" * 64, "city-model", DIM)


def vector(seed: int) -> FloatArray:
    """Return a unit vector (D,) that belongs to this seed."""
    row: FloatArray = unit_rows(np.random.default_rng(seed).standard_normal((1, DIM)))[0]
    return row


def vectors(*seeds: int) -> FloatArray:
    return np.stack([vector(seed) for seed in seeds]) if seeds else np.empty((0, DIM), np.float32)


def content(seed: int) -> bytes:
    return hashlib.sha256(str(seed).encode()).digest()


def image(path: str, seed: int = 0, **more: object) -> NewImage:
    return NewImage(path=path, content=content(seed), size=seed, mtime_ns=seed, **more)  # type: ignore[arg-type]


def read(directory: Path, model: Model = BEACH) -> SqliteStore:
    """Open for reading with a model."""
    store = SqliteStore.open(directory)
    store.use_model(model)
    return store
