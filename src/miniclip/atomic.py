"""Write a file whole or not at all; a reader never sees half of one. It knows no format."""

from __future__ import annotations

import os
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
