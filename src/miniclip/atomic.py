"""Write a file or a folder whole or not at all; a reader never sees half. It knows no format."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from miniclip.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a stream whose content takes the place of `path` when the block ends without an error.

    StoreError when the folder is missing or something cannot be written; the old file then stays.
    """
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            with fresh.open("xb") as stream:
                yield stream
            os.replace(fresh, path)  # noqa: PTH105 - says better than rename what it does
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {path} ({error.strerror or error}); check the folder, its permissions "
            "and the disk, or choose another place"
        ) from error


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` when the block ends without an error.

    After any error the old folder stays. A kill at the worst moment leaves the old or the new one
    beside it under a hidden name. OSError when something cannot be written.
    """
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.new")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        for path in (*fresh.rglob("*"), fresh):
            _sync(path)
        _replace(folder, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _replace(folder: Path, fresh: Path) -> None:
    """Put `fresh` at `folder`; no call swaps two folders, so the old one steps aside."""
    old = fresh.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's entries, before going on."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
