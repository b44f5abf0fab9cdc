"""Files that could not be read, remembered so that they are tried again only when they change.

They are tried again, too, when another decoder could change the verdict. It reads no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple, Self

from miniclip.index.sources import State
from miniclip.index.store import Place, Store

SETTING = "failures"


class Failure(NamedTuple):
    """Why the image at a place could not be read, and the state its file was in."""

    reason: str
    state: State


class Failures:
    """The failures of one index: read once, changed in memory, kept by `save`."""

    def __init__(self, entries: dict[Place, Failure]) -> None:
        self._entries = entries
        self._saved = dict(entries)

    @classmethod
    def of(cls, store: Store) -> Self:
        """Read them from the store's settings; none when the decoders have changed since."""
        kept = json.loads(store.settings().get(SETTING, "{}"))
        entries = kept.get("entries", []) if kept.get("decoders") == _decoders() else []
        return cls(
            {
                Place(path, member): Failure(reason, State(*state))
                for path, member, reason, state in entries
            }
        )

    def reason(self, place: Place, state: State) -> str | None:
        """Return why this very file failed before; None when it was never tried in this state."""
        failure = self._entries.get(place)
        return failure.reason if failure and failure.state == state else None

    def note(self, place: Place, state: State, reason: str) -> None:
        """Remember a failure."""
        self._entries[place] = Failure(reason, state)

    def save(self, store: Store, forget: Callable[[Place], bool]) -> None:
        """Keep all but those to forget; writes nothing if none changed."""
        entries = {place: entry for place, entry in self._entries.items() if not forget(place)}
        if entries != self._saved:
            rows = [[*place, failure.reason, failure.state] for place, failure in entries.items()]
            store.remember({SETTING: json.dumps({"decoders": _decoders(), "entries": rows})})
            self._saved = entries


def _decoders() -> str:
    extras = [name for name in ("pillow_heif", "pydicom", "pyarrow") if find_spec(name)]
    return " ".join((version("miniclip"), version("pillow"), *extras))
