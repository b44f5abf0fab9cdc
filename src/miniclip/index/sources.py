"""What there is to index: the images below folders, those inside archives, and how to read them.

Listing opens no image; it yields where each lies and in which state its file is. It compares
nothing and stores nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from miniclip.errors import DatasetError, MiniClipError
from miniclip.images import IMAGE_SUFFIXES, ImageSource
from miniclip.index.archives import (
    PARQUET,
    TAR,
    Member,
    is_archive,
    list_archive,
    read_rows,
    tar_captions,
)
from miniclip.index.ignore import Ignored
from miniclip.index.scan import find_images

SUFFIXES = IMAGE_SUFFIXES | {TAR, PARQUET}
OnSkipped = Callable[[Path, str], None]


class State(NamedTuple):
    """What tells an unchanged file: its size in bytes and its times of modification."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Read the state, of a link that leads nowhere that of the link; None if there is none."""
        for stat in (os.stat, os.lstat):
            try:
                status = stat(path)
            except (OSError, ValueError):
                continue
            return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return None


class Seen(NamedTuple):
    """An image on the disk. member: its name in the archive `path`, "" when it is the file.

    state: of the file at `path`. offset, size: the bytes of a member of a tar.
    """

    path: Path
    state: State
    member: str = ""
    offset: int = 0
    size: int | None = None

    @property
    def name(self) -> str:
        """Return what people see."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)


class Opened(NamedTuple):
    """An image that can be read now, with the captions that its archive has for it."""

    seen: Seen
    source: ImageSource
    captions: tuple[str, ...] = ()


def list_images(
    root: Path, *, patterns: Sequence[str] = (), on_skipped: OnSkipped
) -> Iterator[Seen]:
    """Yield the images below a folder, or of a file, that no pattern (of .gitignore) leaves out.

    on_skipped: called with each folder or archive that cannot be listed, and why. Raises
    DatasetError when there is no such root, ConfigError for a pattern without a meaning.
    """
    ignored = Ignored.of(root, patterns)
    for path in find_images([root], on_unreadable=on_skipped, suffixes=SUFFIXES, leave_out=ignored):
        state = State.of(path)
        if state is None:  # deleted since the folder was listed
            continue
        if not is_archive(path):
            yield Seen(path, state)
            continue
        for member in _members(path, path == root, on_skipped):
            if not ignored(path / member.name, False):
                yield Seen(path, state, *member)


def open_images(wanted: Iterable[Seen], on_skipped: OnSkipped) -> Iterator[Opened]:
    """Yield a source for each image, in order; those of one archive have to follow each other.

    Rows of a table are read when their turn comes. An archive that cannot be read any more gives
    nothing and is named to `on_skipped`.
    """
    for path, group in groupby(wanted, key=lambda seen: seen.path):
        if not is_archive(path):
            yield from (Opened(seen, ImageSource(seen.name, path)) for seen in group)
            continue
        with _skipping(path, on_skipped):
            if path.suffix.lower() == PARQUET:
                seen_of = {seen.member: seen for seen in group}
                for name, data, captions in read_rows(path, seen_of.keys()):
                    yield Opened(
                        seen_of[name], ImageSource(seen_of[name].name, data=data), captions
                    )
            else:
                captions_of = tar_captions(path)
                for seen in group:
                    source = ImageSource(seen.name, path, offset=seen.offset, size=seen.size)
                    yield Opened(seen, source, captions_of.get(seen.offset, ()))


def _members(path: Path, named: bool, on_skipped: OnSkipped) -> list[Member]:
    """List an archive; a table without images is only worth a word if the user has named it."""

    def on_failure(path: Path, why: str) -> None:
        if named or "without a column" not in why:
            on_skipped(path, why)

    found: dict[str, Member] = {}  # of members of one name the last counts, as tar unpacks them
    with _skipping(path, on_failure):
        found.update((member.name, member) for member in list_archive(path))
    return list(found.values())


@contextmanager
def _skipping(path: Path, on_skipped: OnSkipped) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        on_skipped(path, f"cannot read the file: {error.strerror or error}")
    except (DatasetError, MiniClipError) as error:
        on_skipped(path, str(error))
