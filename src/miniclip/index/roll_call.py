"""Calling the images of an index against the files on the disk, both as they come, once through.

The images come in the order of their places and the files nearly so: most files are the next image
in line, which costs no look-up. Images that are passed over wait in the ledger to be met later.
"""

from __future__ import annotations

from collections.abc import Iterator

from miniclip.index.ledger import Ledger, place_key
from miniclip.index.store import Known, Place


class RollCall:
    """One call. known: all images, in the order of `Store.known`; the ledger is empty."""

    def __init__(self, known: Iterator[Known], ledger: Ledger) -> None:
        self._known = known
        self._ledger = ledger
        self._next = next(known, None)

    def meet(self, place: Place, size: int, mtime_ns: int) -> bool:
        """Note that a file is there; return whether it is as it was, and has a vector."""
        if self._next and self._next.place != place:
            self._ledger.add(self._before(place), met=False)
        image = self._next
        if image is None or image.place != place:
            return self._ledger.meet(place, size, mtime_ns)
        self._next = next(self._known, None)
        return image.embedded and (image.size, image.mtime_ns) == (size, mtime_ns)

    def finish(self) -> None:
        """Pass over all images that are left."""
        self._ledger.add(self._before(None), met=False)

    def _before(self, place: Place | None) -> Iterator[Known]:
        end = place and place_key(place)
        while self._next and (end is None or place_key(self._next.place) < end):
            yield self._next
            self._next = next(self._known, None)
