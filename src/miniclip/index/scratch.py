"""A database for the time of one piece of work: what it holds lies on the disk, and not in memory.

It has no name and no other user, is never rolled back, and goes with its connection or a kill.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from miniclip.errors import StoreError


@contextmanager
def scratch() -> Iterator[sqlite3.Connection]:
    """Give an empty database; StoreError when there is no room for temporary files."""
    with closing(sqlite3.connect("", check_same_thread=False)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        try:
            yield db
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"cannot write temporary files ({error}); free some disk, or set TMPDIR to a "
                "folder on another one, then run the same command again: it goes on"
            ) from error
