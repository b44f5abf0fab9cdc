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
from miniclip.index.sources import Seen, list_images
from miniclip.index.store import Place
from miniclip.index.todo import Todo


@dataclass
class Comparison:
    """The state of the folders against the state of the index.

    ledger: all images of the index; it misses those that are not on the disk any more. todo: images
    to read: new ones, those whose file changed, and those without a vector of the model. unchanged:
    how many are as the index knows them. failing: places that failed before and have not changed.
    skipped: these and the folders and archives that cannot be listed.
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
    result = Comparison(Ledger(parts.scratch, "known"), Todo(parts.scratch))
    result.ledger.add(parts.store.known(), missed=True)
    result.ledger.excuse_others([parts.location.place(root).path for root in roots])
    for root in roots:
        _compare_root(root, result, parts, patterns, accept_empty)
    hidden = [
        parts.location.place(Path(entry.name)).path
        for entry in result.skipped
        if os.path.isdir(entry.name)
    ]
    if hidden:
        result.unchanged += result.ledger.excuse(hidden)
    return result


def inside(path: str, folders: Iterable[str]) -> bool:
    """Whether a stored path is one of the folders or below it; "." is the folder of them all."""
    return any(
        folder in (".", path) or path.startswith(folder.rstrip(os.sep) + os.sep)
        for folder in folders
    )


def _compare_root(
    root: Path, result: Comparison, parts: Parts, patterns: Sequence[str], accept_empty: bool
) -> None:
    def skip(path: Path, why: str) -> None:
        result.skipped.append(Skipped(str(path), why))

    folder = parts.location.place(root).path
    if not os.path.exists(root):  # a link to a drive that is not there counts as missing, too
        if not accept_empty and (lost := result.ledger.count_missed([folder])):
            raise _gone(root, "is missing", lost)
        if accept_empty and not os.path.lexists(root):
            return
    empty = True
    for seen in list_images(root, patterns=patterns, on_skipped=skip):
        empty = False
        _compare_one(seen, parts.location.place(seen.path, seen.member), result, parts)
    listed = all(entry.name != str(root) for entry in result.skipped)
    if empty and listed and not accept_empty and (lost := result.ledger.count_missed([folder])):
        raise _gone(root, "is empty", lost)


def _compare_one(seen: Seen, place: Place, result: Comparison, parts: Parts) -> None:
    if reason := parts.failures.reason(place, seen.state):
        result.failing.add(place)
        result.skipped.append(Skipped(seen.name, reason))
    elif result.ledger.meet(place, seen.state.size, seen.state.mtime_ns):
        result.unchanged += 1
    else:
        result.todo.append(seen)


def _gone(root: Path, how: str, images: int) -> DatasetError:
    return DatasetError(
        f"{root} {how}, but the index knows {images:,} images there; mount the drive or check the "
        "path, or forget these images with --prune"
    )
