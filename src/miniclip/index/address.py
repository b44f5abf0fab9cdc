"""Where a store lies and how to open it: a directory with SQLite, or Milvus.

It says nothing about what is in a store, and loads no database before one is opened.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from miniclip.errors import ConfigError, StoreError
from miniclip.index.store import Store

DATABASE = "index.sqlite3"
DEFAULT_NAME = "miniclip"
_MISSING = "missing"  # what belongs to the index but is in no answer


class Address(Protocol):
    """A place for a store; as text, what a user writes to name it."""

    @property
    def exists(self) -> bool:
        """Whether there is an index."""
        ...

    @property
    def attic(self) -> Address:
        """The place for the store of images that vanished."""
        ...

    def open(self, *, write: bool = False, rebuild: bool = False) -> Store:
        """Open it; to write: as the only writer, making it if needed. rebuild: begin empty.

        StoreError when there is none to read or it cannot be used, LockedStoreError when another
        process writes.
        """
        ...


@dataclass(frozen=True)
class Directory:
    """An SQLite index in a directory."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is its database."""
        return is_index(self.path)

    @property
    def attic(self) -> Directory:
        """A directory in it."""
        return Directory(self.path / _MISSING)

    def open(self, *, write: bool = False, rebuild: bool = False) -> Store:
        """Open the database."""
        from miniclip.index.sqlite_store import SqliteStore  # noqa: PLC0415 - only what is asked for

        return SqliteStore.open(self.path, write=write, rebuild=rebuild)


@dataclass(frozen=True)
class InMilvus:
    """An index of a Milvus server, or of Milvus Lite in a directory.

    target: "http://host:19530", perhaps "/database" behind it, or the directory; name: of the
    index, since one Milvus may hold several.
    """

    target: str
    name: str = DEFAULT_NAME

    def __str__(self) -> str:
        return f"milvus:{self.target}" + (f"#{self.name}" if self.name != DEFAULT_NAME else "")

    @property
    def exists(self) -> bool:
        """Whether Milvus has its collections. StoreError when there is no Milvus."""
        from miniclip.index.milvus_store import holds_index  # noqa: PLC0415

        return holds_index(self.target, self.name)

    @property
    def attic(self) -> InMilvus:
        """Another index of the same Milvus."""
        return InMilvus(self.target, f"{self.name}_{_MISSING}")

    def open(self, *, write: bool = False, rebuild: bool = False) -> Store:
        """Connect; MissingExtraError without pymilvus."""
        from miniclip.index.milvus_store import MilvusStore  # noqa: PLC0415

        return MilvusStore.open(self.target, self.name, write=write, rebuild=rebuild)


def parse_address(text: str) -> Address:
    """Read "milvus:FILE.db", "milvus:http://HOST:PORT/DATABASE#NAME", "sqlite:DIR" or "DIR".

    ConfigError for anything else.
    """
    found = re.match(r"([a-z]{2,}):(?!//)", text)
    scheme, rest = (found[1], text[found.end() :]) if found else ("sqlite", text)
    if scheme == "milvus" and rest:
        return _in_milvus(rest)
    if scheme != "sqlite" or not rest or "://" in rest:
        raise ConfigError(
            f"{text!r} names no store; use milvus:FILE.db, milvus:http://HOST:19530 or a directory"
        )
    return Directory(absolute(Path(rest)))


def directory_of(address: Address) -> Path:
    """Return the directory of an SQLite index; StoreError for an index elsewhere."""
    if isinstance(address, Directory):
        return address.path
    raise StoreError(f"the index {address} lies in no directory of its own")


def is_index(directory: Path) -> bool:
    """Tell the directory of an SQLite index by its database."""
    return os.path.isfile(directory / DATABASE)


def absolute(path: Path) -> Path:
    """Make a path absolute and tidy; links stay as they are, since a user knows files by them."""
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100


def _in_milvus(rest: str) -> InMilvus:
    target, _, name = rest.partition("#")
    if "@" in target and "://" in target:
        raise ConfigError(
            "keep the password out of the address of Milvus, since addresses are shown; put "
            "USER:PASSWORD or the token into the environment variable MINICLIP_MILVUS_TOKEN"
        )
    if "://" not in target:
        return InMilvus(str(absolute(Path(target))), name or DEFAULT_NAME)
    if not re.match(r"https?://[^/]", target):
        raise ConfigError(f"{target} is no address of Milvus; use http://HOST:19530 or https://")
    return InMilvus(target, name or DEFAULT_NAME)
