"""A file of vectors: float16 rows of one width, one after the other, and nothing else.

Rows are appended and never changed, so whoever has mapped the first n rows may read them for as
long as it likes. Which rows mean something is for the store to know: what lies behind the rows that
it counts is left over from a writer that was killed, and the next one writes over it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.errors import StoreError
from miniclip.index.store import REBUILD, DamagedStoreError

HalfArray = NDArray[np.float16]
_HALF = np.dtype("<f2")


def append_rows(path: Path, rows: NDArray[Any], *, after: int) -> HalfArray:
    """Write rows (n, D) behind the first `after` rows, and wait until they are on the disk.

    Makes the file if `after` is 0. Returns the rows as they are kept, (n, D) float16. StoreError
    when the disk is full or the file cannot be written: the first rows are as they were.
    """
    kept: HalfArray = np.ascontiguousarray(rows, dtype=_HALF)
    try:
        with path.open("r+b" if after else "wb") as stream:
            stream.seek(after * kept.shape[1] * _HALF.itemsize)
            stream.write(kept.data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StoreError(
            f"cannot write {path} ({error.strerror or error}); free some disk or check the "
            "permissions, then run the same command again: it goes on where it stopped"
        ) from error
    return kept


def map_rows(path: Path, *, rows: int, dim: int) -> HalfArray:
    """Map the first `rows` rows of `dim` numbers for reading; nothing is loaded.

    FileNotFoundError when there is no such file; DamagedStoreError when it is too short.
    """
    size = rows * dim * _HALF.itemsize
    if not rows:
        return np.empty((0, dim), dtype=_HALF)
    try:
        found = path.stat().st_size
        if found < size:
            raise DamagedStoreError(
                f"{path} is truncated to {found} of {size} bytes ({rows} vectors of {dim} "
                f"numbers); {REBUILD}"
            )
        return np.memmap(path, dtype=_HALF, mode="r", shape=(rows, dim))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot read {path} ({error.strerror or error}); check its permissions and the disk"
        ) from error


def let_go(rows: HalfArray) -> None:
    """Give back the memory of mapped rows; whoever touches them again gets them from the file.

    A few rows here and there would otherwise hold ever more of the file, 64 KiB to a row.
    """
    if isinstance(rows.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        rows.base.madvise(mmap.MADV_DONTNEED)


def sync_directory(directory: Path) -> None:
    """Make names that were added to a directory last through a power cut, where that is needed."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
