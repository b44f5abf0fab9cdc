"""What somebody wants a classifier to learn from: uploaded photos with their classes.

A zip gives a class by folder. Names from a zip are only ever shown, never opened as files; what it
holds is counted before any of it is unpacked. It decodes and learns nothing: see `teaching`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from miniclip.datasets.folders import PART_OF_NAME
from miniclip.errors import DatasetError, ImageError
from miniclip.images import IMAGE_SUFFIXES
from miniclip.serve.failures import LimitError

_LONGEST = 100  # letters of a class
_DIRECTORY_BYTES = 4 << 20  # of the list at the end of a zip, all of which Python reads at once
_END, _END_BYTES, _COMMENT_BYTES = b"PK\5\6", 22, 1 << 16  # APPNOTE.TXT of PKWARE, 4.3.16
_END_64, _END_64_BYTES = b"PK\6\7", 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNUSABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Example:
    """A photo that was uploaded, or one in a zip that was.

    name: as people see it. label: its class, "" while nobody has said. part: of "train", "val" and
    "test". member: its place in the zip at `path`. size: in bytes.
    """

    name: str
    path: Path
    label: str = ""
    part: str = "train"
    member: str | None = None
    size: int = 0

    def read(self) -> bytes:
        """Return the bytes of the photo; ImageError when they are not to be had."""
        try:
            if self.member is None:
                return self.path.read_bytes()
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                return stream.read(self.size)
        except (*_UNUSABLE, KeyError, zlib.error) as error:  # RuntimeError: it wants a password
            raise ImageError(f"it cannot be read ({error}); upload it once more") from error


@dataclass(frozen=True)
class Limits:
    """images, bytes: of a whole lesson. one: bytes of one photo."""

    images: int
    bytes: int
    one: int


@dataclass(frozen=True)
class Lesson:
    """The examples so far, in the order in which they came."""

    examples: tuple[Example, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes, sorted."""
        return tuple(sorted({one.label for one in self.examples if one.label}))

    @property
    def unlabelled(self) -> tuple[Example, ...]:
        """Return the photos that nobody has given a class."""
        return tuple(one for one in self.examples if not one.label)

    def with_files(self, paths: Iterable[Path], label: str, limits: Limits) -> Lesson:
        """Add photos of a class, and zips.

        label: "" where the folders of a zip say it, or somebody will later. DatasetError for a zip
        that cannot be used, LimitError for too much.
        """
        label = checked_label(label) if label.strip() else ""
        fresh: list[Example] = []
        for path in paths:
            if path.suffix.lower() == ".zip":
                found = _in_zip(path, limits)
                fresh += [replace(one, label=label) for one in found] if label else found
            else:
                fresh.append(Example(path.name, path, label, size=path.stat().st_size))
        lesson = Lesson((*self.examples, *_named(fresh, self.examples)))
        _check(lesson.examples, limits)
        return lesson

    def labelled(self, name: str, label: str) -> Lesson:
        """Give a photo a class."""
        label = checked_label(label)
        return Lesson(
            tuple(replace(one, label=label) if one.name == name else one for one in self.examples)
        )

    def without(self, name: str) -> Lesson:
        """Leave a photo out."""
        return Lesson(tuple(one for one in self.examples if one.name != name))

    def __str__(self) -> str:
        counts = Counter(one.label for one in self.examples)
        said = [f"{name}: {counts[name]}" for name in self.classes]
        if counts[""]:
            said.append(f"without a class: {counts['']}")
        return ", ".join(said) or "no photos yet"


def checked_label(label: str) -> str:
    """Return a class without spaces around it; DatasetError when it cannot be one."""
    label = label.strip()
    if not label or len(label) > _LONGEST or not label.isprintable():
        raise DatasetError(
            f"{label[:20]!r} is no class; write a name of 1 to {_LONGEST} letters in one line"
        )
    return label


def _in_zip(path: Path, limits: Limits) -> list[Example]:
    """List the photos of a zip: a folder for each class, perhaps in folders train, val and test."""
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            found = [entry for entry in archive.infolist() if _is_photo(entry)]
    except _UNUSABLE as error:
        raise DatasetError(
            f"{path.name} is no zip that can be read ({error}); pack the folders anew"
        ) from error
    if not found:
        raise DatasetError(f"{path.name} holds no photos; pack a folder of photos for each class")
    examples = [
        Example(entry.filename, path, member=entry.filename, size=entry.file_size)
        for entry in found
    ]
    _check(examples, limits)
    places = [PurePosixPath(entry.filename).parts for entry in found]
    first = _first_that_differs(places)
    folders = {place[first].lower() for place in places if len(place) > first + 1}
    parted = bool(folders) and folders <= set(PART_OF_NAME)
    return [
        replace(
            one,
            name="/".join(place[first:]),
            label=_folder(place, first + parted),
            part=PART_OF_NAME[place[first].lower()]
            if parted and len(place) > first + 1
            else "train",
        )
        for one, place in zip(examples, places, strict=True)
    ]


def _check_directory(path: Path) -> None:
    """Raise ValueError for a zip whose list of files is too long to be read, or ends nowhere."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _END_BYTES - _COMMENT_BYTES - _END_64_BYTES))
        tail = stream.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_BYTES:
        raise ValueError("it has no end")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    if _END_64 in tail[:end] or length > _DIRECTORY_BYTES:
        raise ValueError("it lists too many files")


def _is_photo(entry: zipfile.ZipInfo) -> bool:
    place = PurePosixPath(entry.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
    if entry.is_dir() or hidden or place.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    if entry.compress_type not in _PACKED:
        raise ValueError("it is packed in an unusual way")
    return True


def _first_that_differs(places: Sequence[tuple[str, ...]]) -> int:
    """Return how many folders all places share; what lies in one folder alone keeps it."""
    shared = 0
    least = min(map(len, places))
    while shared < least - 2 and len({place[shared] for place in places}) == 1:
        shared += 1
    return shared


def _folder(place: tuple[str, ...], depth: int) -> str:
    """Return the class that a folder at this depth names, "" for a photo beside the folders."""
    if len(place) <= depth + 1:
        return ""
    return "".join(letter for letter in place[depth] if letter.isprintable())[:_LONGEST].strip()


def _named(fresh: Sequence[Example], known: Sequence[Example]) -> list[Example]:
    """Give every photo a name of its own: results are told by name."""
    taken = {one.name for one in known}
    named = []
    for one in fresh:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name} ({number})", number + 1
        taken.add(name)
        named.append(replace(one, name=name))
    return named


def _check(examples: Sequence[Example], limits: Limits) -> None:
    if len(examples) > limits.images:
        raise LimitError(
            f"{len(examples):,} photos are too many; teach with at most {limits.images:,}, or run "
            "`miniclip fit` where the photos are"
        )
    if (total := sum(one.size for one in examples)) > limits.bytes:
        raise LimitError(
            f"{total / 1e6:,.0f} MB of photos are too many; teach with at most "
            f"{limits.bytes / 1e6:,.0f} MB, or run `miniclip fit` where the photos are"
        )
    for one in examples:
        if one.size > limits.one:
            raise LimitError(
                f"{one.name} has {one.size / 1e6:,.0f} MB; a photo may have "
                f"{limits.one / 1e6:,.0f} MB"
            )
