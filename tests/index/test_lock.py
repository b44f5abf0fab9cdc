"""One writer: the second is told who the first is, and a dead one is in nobody's way."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from miniclip.errors import StoreError
from miniclip.index.lock import OWNER_FILE, WriterLock
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import LockedStoreError
from tests.index.store_values import BEACH

HOLD = """
import sys, time
from pathlib import Path
from miniclip.index.sqlite_store import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]), write=True)
print("held", flush=True)
time.sleep(60)
"""


def start_writer(directory: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    assert writer.stdout.readline() == "held\n"
    return writer


def test_the_second_writer_is_told_who_the_first_is_and_readers_are_not_kept_out(
    tmp_path: Path,
) -> None:
    with start_writer(tmp_path) as writer:
        try:
            with pytest.raises(
                LockedStoreError,
                match=rf"process {writer.pid} on {platform.node()} \(since 20.*\) is writing",
            ):
                SqliteStore.open(tmp_path, write=True)
            with SqliteStore.open(tmp_path) as reader:
                assert reader.count() == 0
        finally:
            writer.kill()


def test_the_lock_of_a_killed_writer_is_taken_over_at_once(tmp_path: Path) -> None:
    with start_writer(tmp_path) as writer:
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / OWNER_FILE).exists()

    with SqliteStore.open(tmp_path, write=True) as store:
        store.use_model(BEACH)
        with pytest.raises(LockedStoreError, match=f"process {os.getpid()} "):
            SqliteStore.open(tmp_path, write=True)
    assert not (tmp_path / OWNER_FILE).exists()


def test_a_lock_given_back_is_free(tmp_path: Path) -> None:
    for _ in range(2):
        lock = WriterLock.take(tmp_path)
        lock.release()
        lock.release()


@pytest.mark.parametrize("note", [None, "", "no json", "[]", '{"pid": "x"}'])
def test_a_lock_without_a_readable_note_is_a_lock(tmp_path: Path, note: str | None) -> None:
    lock = WriterLock.take(tmp_path)
    (tmp_path / OWNER_FILE).unlink()
    if note is not None:
        (tmp_path / OWNER_FILE).write_text(note)
    with pytest.raises(LockedStoreError, match="another process is writing"):
        WriterLock.take(tmp_path)
    lock.release()


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot .*--index"):
        SqliteStore.open(tmp_path / "file", write=True)
    with pytest.raises(StoreError, match=r"cannot lock .*--index"):
        WriterLock.take(tmp_path / "file")
