"""One writer at a time: a lock of the operating system, and a note that says who holds it.

The system frees the lock when its holder ends, however it ends, so a lock is never stale: a note
left behind by a killed process is overwritten by the next. It protects a directory of files and
knows nothing of what is in them; readers need no lock.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from miniclip.errors import StoreError
from miniclip.index.store import LockedStoreError

LOCK_FILE, OWNER_FILE = "writer.lock", "writer.json"


class WriterLock:
    """The right to write to a directory, held from `take` to `release`."""

    def __init__(self, lock: FileLock, owner: Path) -> None:
        self._lock = lock
        self._owner = owner

    @classmethod
    def take(cls, directory: Path, index: object = None) -> WriterLock:
        """Take the lock at once. index: what it protects, for messages, if not the directory.

        LockedStoreError with process, host and since when if another holds it; StoreError when the
        directory cannot be written to.
        """
        index = index or directory
        lock = FileLock(directory / LOCK_FILE, timeout=0, thread_local=False)
        owner = directory / OWNER_FILE
        try:
            lock.acquire()
        except Timeout:
            raise LockedStoreError(
                f"{_describe(owner)} is writing to the index {index}; wait until it has ended"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"cannot lock the index {index} ({error}); check that its folder may be "
                "written to, or keep the index elsewhere with --index"
            ) from error
        try:
            note = {"pid": os.getpid(), "host": platform.node(), "since": time.time()}
            owner.write_text(json.dumps(note), encoding="utf-8")
        except OSError as error:
            lock.release()
            raise StoreError(
                f"cannot write {owner} ({error.strerror or error}); free some disk, or check it"
            ) from error
        return cls(lock, owner)

    def release(self) -> None:
        """Give the lock back; a second time is no error."""
        if self._lock.is_locked:
            with suppress(OSError):  # the disk may be gone; the next owner writes over it anyway
                self._owner.unlink()
            self._lock.release()


def _describe(owner: Path) -> str:
    """Say who left the note; it may be missing for the moment between lock and note."""
    try:
        note = json.loads(owner.read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(note["since"]).strftime("%Y-%m-%d %H:%M:%S")
        return f"process {int(note['pid'])} on {note['host']} (since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
