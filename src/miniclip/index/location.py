"""Where an index lies, and how it calls the images: beside the photos, or in the user's data.

It opens no store. An index beside the photos calls them by their path below that folder, so that
the folder can be moved, or a drive mounted elsewhere, with its index; any other by absolute paths.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from miniclip.errors import ConfigError
from miniclip.home import data_dir
from miniclip.index.address import Address, Directory, absolute, directory_of, is_index
from miniclip.index.store import Place

BESIDE = ".miniclip"  # hidden, so that no scan enters it
ROOTS = "roots"  # the setting that lists the folders of an index, as it calls them
_INDEXES = "indexes"


@dataclass(frozen=True)
class Location:
    """A place for an index. base: the folder that stored paths are relative to, if any."""

    address: Address
    base: Path | None = None

    @classmethod
    def at(cls, directory: Path) -> Self:
        """Return the location of an index in this directory, whether there is one yet or not."""
        directory = absolute(directory)
        return cls(Directory(directory), directory.parent if directory.name == BESIDE else None)

    @classmethod
    def of_store(cls, address: Address) -> Self:
        """Return the location of an index at an address; a directory may lie beside its photos."""
        return cls.at(address.path) if isinstance(address, Directory) else cls(address)

    @classmethod
    def of(cls, roots: Sequence[Path]) -> Self:
        """Choose the directory for an index of these folders; an index that is there is kept.

        One folder that may be written to: `.miniclip` inside it. Otherwise the user's data
        directory. ConfigError without a folder.
        """
        if not roots:
            raise ConfigError("name at least one folder to index")
        roots = outermost(roots)
        beside = roots[0] / BESIDE
        away = data_dir(create=False) / _INDEXES / _digest(roots)
        alone = len(roots) == 1 and os.path.isdir(roots[0])
        may_be_beside = is_index(beside) or (not is_index(away) and os.access(roots[0], os.W_OK))
        return cls.at(beside if alone and may_be_beside else away)

    @property
    def exists(self) -> bool:
        """Whether there is an index."""
        return self.address.exists

    @property
    def directory(self) -> Path:
        """The directory of the index; StoreError when it lies in none."""
        return directory_of(self.address)

    def place(self, path: Path, member: str = "") -> Place:
        """Return what the store calls an image at an absolute path."""
        text = os.fspath(path)
        if self.base is None:
            return Place(text, member)
        if path == self.base:
            return Place(os.curdir, member)
        # As text, since this is asked for every file: pathlib would take seconds for a million.
        return Place(text.removeprefix(os.path.join(self.base, "")), member)  # noqa: PTH118

    def path(self, place: Place) -> Path:
        """Return the absolute path of the file that the store calls so."""
        return self.base / place.path if self.base else Path(place.path)


def outermost(roots: Sequence[Path]) -> list[Path]:
    """Return the roots, absolute and sorted, without those that lie inside others."""
    kept: list[Path] = []
    for root in sorted(set(map(absolute, roots))):
        if not any(root.is_relative_to(other) for other in kept):
            kept.append(root)
    return kept


def nearby(folder: Path) -> Iterator[Location]:
    """Yield the indexes that may cover a folder or file: beside it or above, then the user's own.

    Those of the user's data directory come in order of their names; only their roots tell.
    """
    folder = absolute(folder)
    for above in (folder, *folder.parents):
        if is_index(above / BESIDE):
            yield Location.at(above / BESIDE)
    own = data_dir(create=False) / _INDEXES
    for name in sorted(os.listdir(own)) if os.path.isdir(own) else ():  # noqa: PTH208 -- any name
        if is_index(own / name):
            yield Location.at(own / name)


def _digest(roots: Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(map(os.fsencode, roots))).hexdigest()[:16]
