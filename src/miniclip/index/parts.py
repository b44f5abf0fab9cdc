"""What a synchronisation works with, put together by `Index`. It does nothing itself."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from miniclip.encoder import Encoder
from miniclip.index.attic import Attic
from miniclip.index.failures import Failures
from miniclip.index.location import Location
from miniclip.index.store import Store
from miniclip.index.vector_cache import VectorCache


@dataclass(frozen=True)
class Parts:
    """The parts of one index.

    store: to write, with the encoder's model in use. attic: what vanished, for the same model.
    scratch: takes what would grow in memory with the number of images. cache: asked for vectors
    before the model is; None: there is none. places: whether the index is to know where photos were
    taken.
    """

    store: Store
    attic: Attic
    scratch: sqlite3.Connection
    encoder: Encoder
    location: Location
    failures: Failures
    cache: VectorCache | None = None
    places: bool = False
