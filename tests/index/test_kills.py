"""Killed at any moment, or out of disk: the index opens, nothing is lost, no reader notices.

MINICLIP_KILLS sets the number of kills; the default is for every day, 100 for a release.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from miniclip.errors import StoreError
from miniclip.index.sqlite_store import SqliteStore
from tests.index.killing import (
    GRAPH_FROM,
    MODEL,
    check_whole,
    folder,
    readers,
    step_to,
    write_and_die,
    write_and_kill,
)

KILLS = int(os.environ.get("MINICLIP_KILLS", "12"))
FULL_DISKS = KILLS if "MINICLIP_KILLS" in os.environ else 6
LONGEST_SECONDS = 0.4  # a round takes about half of that

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")


def first_round(directory: Path) -> None:
    with SqliteStore.open(directory, write=True, graph_from=GRAPH_FROM) as store:
        store.use_model(MODEL)
        step_to(store, folder(0))


def test_a_writer_killed_at_any_moment_harms_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(KILLS)
    first_round(tmp_path)
    ended, begun = 0, 0
    with readers(tmp_path, 2) as watching:
        for _ in range(KILLS):
            killed = write_and_kill(tmp_path, begun + 1, rng.random() * LONGEST_SECONDS)
            assert killed.refused is None
            ended, begun = killed.ended or ended, killed.begun
            check_whole(tmp_path, ended, begun)
        searches = [reader.stop() for reader in watching]
    assert min(searches) > KILLS

    with SqliteStore.open(tmp_path, write=True, graph_from=GRAPH_FROM) as store:
        store.use_model(MODEL)
        step_to(store, folder(begun))
    check_whole(tmp_path, begun, begun)


SEAMS = [
    # Behind a call of a function: a kill by the clock seldom comes just there.
    ("sqlite_vectors", "append_rows", 1),  # images: written, not named
    ("sqlite_vectors", "append_rows", 5),
    ("sqlite_vectors", "bury", 1),  # in the transaction
    ("sqlite_images", "_describe", 3),
    ("sqlite_vectors", "seal", 4),
    ("sqlite_upkeep", "append_rows", 1),  # the new file of a compaction, half done
    ("sqlite_upkeep", "sync_directory", 1),  # done, not named
    ("sqlite_upkeep", "_compact", 1),  # named, the old file still there
    ("sqlite_upkeep", "_check", 1),  # a graph: written, not named
    ("sqlite_upkeep", "_link", 1),  # named, the old one still there
    ("sqlite_store", "optimise", 1),
]


@pytest.mark.parametrize(("module", "name", "calls"), SEAMS, ids=str)
def test_a_writer_killed_between_two_steps_harms_nothing(
    tmp_path: Path, module: str, name: str, calls: int
) -> None:
    first_round(tmp_path)

    assert write_and_die(tmp_path, 2, f"miniclip.index.{module}", name, calls) == -signal.SIGKILL

    check_whole(tmp_path, 0, 2)
    with SqliteStore.open(tmp_path, write=True, graph_from=GRAPH_FROM) as store:
        store.use_model(MODEL)
        step_to(store, folder(2))
    check_whole(tmp_path, 2, 2)
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".f16"]) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 8 MiB, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if not done or done.returncode:
        pytest.skip("mounting a small disk needs root on Linux")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_harms_nothing_and_once_there_is_room_it_goes_on(small_disk: Path) -> None:
    """The disk is filled up to a different brim each time; every second writer is also killed."""
    index, filler = small_disk / "index", small_disk / "filler"
    index.mkdir()
    first_round(index)
    rng = np.random.default_rng(KILLS)
    ended, begun = 0, 0
    refusals: list[str] = []
    with readers(index, 1) as watching:
        for attempt in range(FULL_DISKS):
            fill(filler, spare=int(rng.integers(0, 96)) * 1024)
            seconds = rng.random() * LONGEST_SECONDS if attempt % 2 else 2 * LONGEST_SECONDS
            killed = write_and_kill(index, begun + 1, seconds)
            refusals += [killed.refused] if killed.refused else []
            ended, begun = killed.ended or ended, killed.begun
            check_whole(index, ended, begun)
            filler.unlink()
        (searches,) = (reader.stop() for reader in watching)
    assert searches > FULL_DISKS
    assert refusals
    assert [refusal for refusal in refusals if "free" not in refusal] == []

    with SqliteStore.open(index, write=True, graph_from=GRAPH_FROM) as store:
        store.use_model(MODEL)
        step_to(store, folder(begun))
    check_whole(index, begun, begun)


def fill(filler: Path, *, spare: int) -> None:
    """Fill the disk but for some bytes."""
    status = os.statvfs(filler.parent)
    size = status.f_bavail * status.f_frsize - spare
    with suppress(OSError):  # a reader was faster: full is full
        filler.write_bytes(b"\0" * max(size, 0))


def test_an_index_on_a_disk_that_may_not_be_written_is_read(small_disk: Path) -> None:
    first_round(small_disk)
    before = {path.name for path in small_disk.iterdir()}
    remounted = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remounted, check=True)

    check_whole(small_disk, 0, 0)
    with pytest.raises(StoreError, match=r"Read-only file system"):
        SqliteStore.open(small_disk, write=True)

    assert {path.name for path in small_disk.iterdir()} == before


def test_what_a_reader_without_room_for_a_lock_was_told_counts_only_if_no_one_wrote(
    small_disk: Path,
) -> None:
    """A writer comes between its question and its answer: it asks again."""
    first_round(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with SqliteStore.open(small_disk) as reader:
        asked = 0

        def question(db: sqlite3.Connection) -> int:
            nonlocal asked
            asked += 1
            (images,) = db.execute("SELECT count(*) FROM images").fetchone()
            if asked == 1:
                subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
                with SqliteStore.open(small_disk, write=True) as writer:
                    writer.delete(writer.ids())
            return int(images)

        assert reader._database.read(question) == 0
        assert asked == 2
