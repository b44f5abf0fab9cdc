"""What has happened to the files since the index was last in step: the comparison, nothing done.

It looks at names, sizes and times only; what a changed time means, `sync` finds by reading.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.index.ledger import Ledger
from miniclip.index.parts import Parts
from miniclip.index.roll_call import RollCall
from miniclip.index.sources import Seen, list_images
from miniclip.index.store import Place
from miniclip.index.todo import Todo


@dataclass
class Comparison:
    """The state of the folders against the state of the index.

    ledger: it misses the images that are not on the disk any more; if anything is to be read, it
    holds all others of the index, too. todo: images to read: new ones, those whose file changed,
    and those without a vector of the model. unchanged: how many are as the index knows them.
    failing: places that failed before and have not changed. skipped: these and the folders and
    archives that cannot be listed.
    """

    ledger: Ledger
    todo: Todo
    unchanged: int = 0
    failing: set[Place] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)


def compare(
    parts: Parts, roots: Sequence[Path], *, patterns: Sequence[str], accept_empty: bool
) -> Comparison:
    """Compare folders with what an index knows of the images below them.

    Images below a folder that cannot be listed are taken to be there. DatasetError for a root that
    is missing, and for one without an image of which the index knows some, unless `accept_empty`.
    """
    walk = _Walk(parts, patterns, accept_empty)
    for root in roots:
        walk.over(root)
    return walk.end(roots)


def inside(path: str, folders: Iterable[str]) -> bool:
    """Whether a stored path is one of the folders or below it; "." is the folder of them all."""
    return any(
        folder in (".", path) or path.startswith(folder.rstrip(os.sep) + os.sep)
        for folder in folders
    )


class _Walk:
    """The comparison while it is made, root by root."""

    def __init__(self, parts: Parts, patterns: Sequence[str], accept_empty: bool) -> None:
        self._parts = parts
        self._patterns = patterns
        self._accept_empty = accept_empty
        self._ledger = Ledger(parts.scratch, "known")
        self._roll = RollCall(parts.store.known(), self._ledger)
        self._found = Comparison(self._ledger, Todo(parts.scratch))

    def over(self, root: Path) -> None:
        """Compare what lies below a root."""
        if not os.path.exists(root):  # a link to a drive that is not there counts as missing, too
            self._refuse_loss(root, "is missing")
            if self._accept_empty and not os.path.lexists(root):
                return
        empty = True
        for seen in list_images(root, patterns=self._patterns, on_skipped=self._skip):
            empty = False
            self._take(seen)
        if empty and all(entry.name != str(root) for entry in self._found.skipped):
            self._refuse_loss(root, "is empty")

    def end(self, roots: Sequence[Path]) -> Comparison:
        """Return the comparison of these roots."""
        self._roll.finish()
        self._ledger.expect(map(self._folder, roots))
        names = (entry.name for entry in self._found.skipped)
        hidden = [self._folder(Path(name)) for name in names if os.path.isdir(name)]
        self._found.unchanged += self._ledger.excuse(hidden)
        if len(self._found.todo):
            self._ledger.complete(self._parts.store.known())
        return self._found

    def _take(self, seen: Seen) -> None:
        place = self._parts.location.place(seen.path, seen.member)
        if reason := self._parts.failures.reason(place, seen.state):
            self._found.failing.add(place)
            self._found.skipped.append(Skipped(seen.name, reason))
        elif self._roll.meet(place, seen.state.size, seen.state.mtime_ns):
            self._found.unchanged += 1
        else:
            self._found.todo.append(seen)

    def _skip(self, path: Path, why: str) -> None:
        self._found.skipped.append(Skipped(str(path), why))

    def _refuse_loss(self, root: Path, how: str) -> None:
        if self._accept_empty:
            return
        self._roll.finish()
        if lost := self._ledger.expect([self._folder(root)]):
            raise DatasetError(
                f"{root} {how}, but the index knows {lost:,} images there; mount the drive or "
                "check the path, or forget these images with --prune"
            )

    def _folder(self, path: Path) -> str:
        return self._parts.location.place(path).path
