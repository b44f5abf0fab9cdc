"""Where images go that vanished: out of every answer, but with their vectors, until they return.

A drive that is not mounted, or a folder moved away and back, then costs no second embedding. It is
a store of its own beside the index, opened when first needed. Writers put an image into it before
they take it from the index, and the other way round: a kill leaves it in both, which does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from miniclip.arrays import FloatArray
from miniclip.index.store import ImageRecord, Known, Place, Store


class Attic:
    """The images that vanished from one index, for one model. Close it after use."""

    def __init__(self, open_store: Callable[[bool], Store | None]) -> None:
        """Take what opens the store; called with whether to make one that is not there."""
        self._open_store = open_store
        self._store = open_store(False)
        self._places: dict[Place, Known] = {}
        if self._store:
            self._places = {image.place: image for image in self._store.known() if image.embedded}
        self._contents = {image.content: image for image in self._places.values()}

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: Place) -> Known | None:
        """Return what vanished from this place."""
        return self._places.get(place)

    def of(self, content: bytes) -> Known | None:
        """Return an image of this content."""
        return self._contents.get(content)

    def look_up(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        """Return images (n) and their vectors (n, D) float32, in the order asked for."""
        assert self._store is not None  # an id came from it
        return self._store.records(ids), self._store.vectors(ids)

    def keep(self, images: Sequence[ImageRecord], vectors: FloatArray) -> None:
        """Take images (n) in, with their vectors (n, D) float32 unit rows."""
        self._store = self._store or self._open_store(True)
        assert self._store is not None  # it was asked to make one
        ids = self._store.upsert(images, vectors)
        for number, image in zip(ids, images, strict=True):
            known = Known(number, image.place, image.size, image.mtime_ns, image.content, True)
            self._places[image.place] = known
            self._contents[image.content] = known

    def drop(self, places: Collection[Place]) -> int:
        """Forget what vanished from these places; return how many there were."""
        gone = [self._places.pop(place) for place in places if place in self._places]
        if gone and self._store:
            self._store.delete([image.id for image in gone])
            self._contents = {image.content: image for image in self._places.values()}
        return len(gone)

    def places(self) -> Mapping[Place, Known]:
        """Return all that is here, by place."""
        return self._places

    def close(self) -> None:
        """Let go of the store."""
        if self._store:
            self._store.close()
