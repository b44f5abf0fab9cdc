"""Where images go that vanished: out of every answer, but with their vectors, until they return.

A drive that is not mounted, or a folder moved away and back, then costs no second embedding. It is
a store of its own beside the index, opened when first needed. Writers put an image into it before
they take it from the index, and the other way round: a kill leaves it in both, which does no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence

from miniclip.arrays import FloatArray
from miniclip.index.ledger import Ledger
from miniclip.index.store import ImageRecord, Known, Place, Store


class Attic:
    """The images that vanished from one index, for one model. Close it after use."""

    def __init__(
        self, open_store: Callable[[bool], Store | None], scratch: sqlite3.Connection
    ) -> None:
        """Take what opens the store; called with whether to make one that is not there."""
        self._open_store = open_store
        self._store = open_store(False)
        self._ledger = Ledger(scratch, "attic")
        if self._store:
            self._ledger.add(image for image in self._store.known() if image.embedded)

    def __len__(self) -> int:
        return len(self._ledger)

    def at(self, place: Place) -> Known | None:
        """Return what vanished from this place."""
        return self._ledger.at(place)

    def of(self, content: bytes) -> Known | None:
        """Return an image of this content."""
        return self._ledger.of(content)

    def look_up(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        """Return images (n) and their vectors (n, D) float32, in the order asked for."""
        assert self._store is not None  # an id came from it
        return self._store.records(ids), self._store.vectors(ids)

    def keep(self, images: Sequence[ImageRecord], vectors: FloatArray) -> None:
        """Take images (n) in, with their vectors (n, D) float32 unit rows."""
        self._store = self._store or self._open_store(True)
        assert self._store is not None  # it was asked to make one
        ids = self._store.upsert(images, vectors)
        self._ledger.add(map(Known.of, ids, images))

    def drop(self, places: Collection[Place]) -> int:
        """Forget what vanished from these places; return how many there were."""
        gone = [image.id for place in places if (image := self._ledger.at(place))]
        if gone and self._store:
            self._store.delete(gone)
            self._ledger.remove(places)
        return len(gone)

    def prune(self, folders: Sequence[str]) -> int:
        """Forget all that vanished from these folders; return how many there were."""
        pages = (page for folder in folders for page in self._ledger.below(folder))
        return sum(self.drop([image.place for image in page]) for page in pages)

    def close(self) -> None:
        """Let go of the store."""
        if self._store:
            self._store.close()
