"""From images of an index to sources that can be decoded: files, and members of archives.

It decodes nothing. What is gone from the disk comes out as a source that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from miniclip.errors import MiniClipError
from miniclip.images import ImageSource
from miniclip.index.archives import PARQUET, is_archive, list_archive, read_rows
from miniclip.index.location import Location
from miniclip.index.store import ImageRecord


def sources_of(location: Location, images: Sequence[ImageRecord]) -> list[ImageSource]:
    """Return a source for each image, in order.

    An archive is listed once per call; rows of a table come with their bytes, so ask for as many
    as memory may hold.
    """
    members: dict[Path, set[str]] = {}
    for image in images:
        path = location.path(image.place)
        if image.member and is_archive(path):
            members.setdefault(path, set()).add(image.member)
    found: dict[tuple[Path, str], ImageSource] = {}
    for path, names in members.items():
        with suppress(MiniClipError, OSError):  # then decoding will say that there is nothing
            found |= _read(path, names)
    return [_source(location.path(image.place), image.member, found) for image in images]


def _read(path: Path, names: set[str]) -> dict[tuple[Path, str], ImageSource]:
    if path.suffix.lower() == PARQUET:
        return {
            (path, row.name): ImageSource(f"{path}/{row.name}", data=row.data)
            for row in read_rows(path, names)
        }
    return {
        (path, member.name): ImageSource(
            f"{path}/{member.name}", path, offset=member.offset, size=member.size
        )
        for member in list_archive(path)
        if member.name in names
    }


def _source(path: Path, member: str, found: dict[tuple[Path, str], ImageSource]) -> ImageSource:
    if not member:
        return ImageSource.of(path)
    gone = ImageSource(f"{path}/{member}", data=b"")
    return found.get((path, member), gone)
