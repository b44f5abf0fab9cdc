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
from miniclip.index.failures import Failures
from miniclip.index.parts import Parts
from miniclip.index.sources import Seen, list_images
from miniclip.index.store import Known, Place


@dataclass
class Comparison:
    """The state of the folders against the state of the index.

    unchanged: how many images are as the index knows them. todo: images to read: new ones, those
    whose file changed, and those without a vector of the model. known: what the index knew of them.
    vanished: images of the index that are not on the disk any more. embedded: content -> id of an
    image with a vector. failing: places that failed before and have not changed. skipped: these and
    the folders and archives that cannot be listed.
    """

    unchanged: int = 0
    todo: list[Seen] = field(default_factory=list)
    known: dict[Place, Known] = field(default_factory=dict)
    vanished: dict[Place, Known] = field(default_factory=dict)
    embedded: dict[bytes, int] = field(default_factory=dict)
    failing: set[Place] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)


def compare(
    parts: Parts, roots: Sequence[Path], *, patterns: Sequence[str], accept_empty: bool
) -> Comparison:
    """Compare folders with what an index knows of the images below them.

    Images below a folder that cannot be listed are taken to be there. DatasetError for a root that
    is missing, and for one without an image of which the index knows some, unless `accept_empty`.
    """
    result = Comparison()
    folders = [parts.location.place(root).path for root in roots]
    for image in parts.store.known():
        if image.embedded:
            result.embedded[image.content] = image.id
        if inside(image.place.path, folders):
            result.vanished[image.place] = image
    for root in roots:
        _compare_root(root, result, parts, patterns, accept_empty)
    hidden = [
        parts.location.place(Path(entry.name)).path
        for entry in result.skipped
        if os.path.isdir(entry.name)
    ]
    if hidden:
        lost = [place for place in result.vanished if inside(place.path, hidden)]
        result.unchanged += len(lost)
        for place in lost:
            del result.vanished[place]
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
        if not accept_empty and (lost := _below(folder, result.vanished)):
            raise _gone(root, "is missing", lost)
        if accept_empty and not os.path.lexists(root):
            return
    empty = True
    for seen in list_images(root, patterns=patterns, on_skipped=skip):
        empty = False
        place = parts.location.place(seen.path, seen.member)
        _compare_one(seen, place, result, parts.failures)
    listed = all(entry.name != str(root) for entry in result.skipped)
    if empty and listed and not accept_empty and (lost := _below(folder, result.vanished)):
        raise _gone(root, "is empty", lost)


def _compare_one(seen: Seen, place: Place, result: Comparison, failures: Failures) -> None:
    if reason := failures.reason(place, seen.state):
        result.failing.add(place)
        result.skipped.append(Skipped(seen.name, reason))
        return
    known = result.vanished.pop(place, None)
    if known and known.embedded and (known.size, known.mtime_ns) == seen.state[:2]:
        result.unchanged += 1
        return
    if known:
        result.known[place] = known
    result.todo.append(seen)


def _below(folder: str, places: Iterable[Place]) -> int:
    return sum(inside(place.path, [folder]) for place in places)


def _gone(root: Path, how: str, images: int) -> DatasetError:
    return DatasetError(
        f"{root} {how}, but the index knows {images:,} images there; mount the drive or check the "
        "path, or forget these images with --prune"
    )
