"""Find the images below folders. It looks at names only and opens no file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from miniclip.errors import DatasetError
from miniclip.images import IMAGE_SUFFIXES

LeaveOut = Callable[[Path, bool], bool]  # called with a path and whether it is a folder


def find_images(
    roots: Iterable[Path],
    *,
    on_unreadable: Callable[[Path, str], None] | None = None,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    leave_out: LeaveOut | None = None,
) -> Iterator[Path]:
    """Walk files and folders and yield images, folder by folder, each folder in order of names.

    A root that is a file is yielded whatever its name, so that decoding can say what is wrong with
    it. Below folders an image is what has an image's suffix in any case and is a file, or a link
    that leads nowhere (decoding will name it). Hidden files and folders are left out. Links to
    folders are followed, each folder is entered once, so that a loop of links ends.

    on_unreadable: called with each folder that cannot be listed and the reason; without it such a
    folder raises DatasetError. A root that does not exist always does.
    suffixes: which names count below folders, in lower case. leave_out: says which files and whole
    folders below the roots are passed over.
    """
    rules = _Rules(on_unreadable, suffixes, leave_out or (lambda _path, _is_folder: False))
    entered: set[tuple[int, int]] = set()
    for root in roots:
        if os.path.isdir(root):
            yield from _walk(root, entered, rules)
        elif os.path.lexists(root):
            yield root
        else:
            raise DatasetError(
                f"there is no file or folder {root}; check the path and its permissions"
            )


class _Rules(NamedTuple):
    on_unreadable: Callable[[Path, str], None] | None
    suffixes: Collection[str]
    leave_out: LeaveOut


def _walk(root: Path, entered: set[tuple[int, int]], rules: _Rules) -> Iterator[Path]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(
                    (entry for entry in listing if not entry.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except OSError as error:
            reason = f"cannot list the folder: {error.strerror or error}"
            if rules.on_unreadable is None:
                raise DatasetError(f"{folder}: {reason}; check its permissions") from error
            rules.on_unreadable(folder, reason)
            continue
        images = (folder / entry.name for entry in entries if _is_image(entry, rules.suffixes))
        yield from (path for path in images if not rules.leave_out(path, False))
        folders = (folder / entry.name for entry in reversed(entries) if _is_folder(entry))
        waiting.extend(path for path in folders if not rules.leave_out(path, True))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _is_image(entry: os.DirEntry[str], suffixes: Collection[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() not in suffixes:  # noqa: PTH122 - hot loop
        return False
    try:
        if entry.is_file():
            return True
    except OSError:
        return True  # a link in a circle: decoding says so
    return entry.is_symlink() and not entry.is_dir()
