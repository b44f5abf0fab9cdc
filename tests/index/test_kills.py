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
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from miniclip.errors import StoreError
from miniclip.index.sqlite_store import SqliteStore
from tests.index.killing import (
    Imagined,
    check_whole,
    forks,
    readers,
    write_and_die,
    write_and_kill,
)
from tests.index.store_kinds import KINDS, SqliteHome

KILLS = int(os.environ.get("MINICLIP_KILLS", "12"))
FULL_DISKS = KILLS if "MINICLIP_KILLS" in os.environ else 6
FEW = KILLS if "MINICLIP_KILLS" in os.environ else 3  # of a store that takes seconds to open
FEW_PHOTOS = 24
LONGEST_SECONDS = 3.0  # that a writer lives, on a computer with much else to do

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")


@pytest.fixture(scope="module", autouse=True)
def _forks() -> Iterator[None]:
    with forks():
        yield


def begin(index: Imagined) -> float:
    """Make the index; return how many seconds may pass until a writer is killed."""
    started = time.perf_counter()
    index.step_to(0)
    return min(2 * (time.perf_counter() - started), LONGEST_SECONDS)


def test_a_writer_killed_at_any_moment_harms_nothing_and_no_reader_notices(tmp_path: Path) -> None:
    index = Imagined(SqliteHome(tmp_path))
    longest = begin(index)
    with readers(index, 2) as watching:
        begun = kill(index, KILLS, longest)
        searches = [reader.stop() for reader in watching]
    assert min(searches) > KILLS

    index.step_to(begun)
    check_whole(index, begun, begun)


def test_a_writer_to_milvus_lite_killed_at_any_moment_harms_nothing(tmp_path: Path) -> None:
    index = Imagined(KINDS["milvus-lite"].in_(tmp_path), FEW_PHOTOS)
    begun = kill(index, FEW, begin(index))

    index.step_to(begun)
    check_whole(index, begun, begun)


def kill(index: Imagined, times: int, longest: float) -> int:
    """Kill writers, looking at what each has left; return the last round that one has begun."""
    rng = np.random.default_rng(times)
    ended, begun = 0, 0
    for _ in range(times):
        killed = write_and_kill(index, begun + 1, rng.random() * longest)
        assert killed.refused is None
        ended, begun = killed.ended or ended, killed.begun
        check_whole(index, ended, begun)
    return begun


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


LITE_SEAMS = [
    ("miniclip.index.milvus_writer", "Writer._begin", 2),  # only the journal knows
    ("miniclip.index.milvus_writer", "Writer._write_vectors", 2),  # nobody counts them
    ("milvus_lite.storage.wal", "WAL.write_insert", 9),
    ("milvus_lite.engine.flush", "write_data_file", 1),  # written, not named
    ("milvus_lite.storage.manifest", "Manifest.save", 1),  # named, and still in the log
]


@pytest.mark.parametrize(("module", "name", "calls"), SEAMS, ids=str)
def test_a_writer_killed_between_two_steps_harms_nothing(
    tmp_path: Path, module: str, name: str, calls: int
) -> None:
    index = Imagined(SqliteHome(tmp_path))
    die_between(index, f"miniclip.index.{module}", name, calls)

    assert len(list((tmp_path / "index").glob("*.f16"))) == 2


@pytest.mark.parametrize(("module", "name", "calls"), LITE_SEAMS, ids=str)
def test_a_writer_to_milvus_lite_killed_between_two_steps_harms_nothing(
    tmp_path: Path, module: str, name: str, calls: int
) -> None:
    die_between(Imagined(KINDS["milvus-lite"].in_(tmp_path), FEW_PHOTOS), module, name, calls)


def die_between(index: Imagined, module: str, name: str, calls: int) -> None:
    begin(index)

    assert write_and_die(index, 2, module, name, calls) == -signal.SIGKILL

    check_whole(index, 0, 2)
    index.step_to(2)
    check_whole(index, 2, 2)


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
    index, filler = Imagined(SqliteHome(small_disk)), small_disk / "filler"
    longest = begin(index)
    rng = np.random.default_rng(KILLS)
    ended, begun = 0, 0
    refusals: list[str] = []
    with readers(index, 1) as watching:
        for attempt in range(FULL_DISKS):
            fill(filler, spare=int(rng.integers(0, 96)) * 1024)
            seconds = rng.random() * longest if attempt % 2 else 2 * longest
            killed = write_and_kill(index, begun + 1, seconds)
            refusals += [killed.refused] if killed.refused else []
            ended, begun = killed.ended or ended, killed.begun
            check_whole(index, ended, begun)
            filler.unlink()
        (searches,) = (reader.stop() for reader in watching)
    assert searches > FULL_DISKS
    assert refusals
    assert [refusal for refusal in refusals if "free" not in refusal] == []

    index.step_to(begun)
    check_whole(index, begun, begun)


def fill(filler: Path, *, spare: int) -> None:
    """Fill the disk but for some bytes."""
    status = os.statvfs(filler.parent)
    size = status.f_bavail * status.f_frsize - spare
    with suppress(OSError):  # a reader was faster: full is full
        filler.write_bytes(b"\0" * max(size, 0))


def test_an_index_on_a_disk_that_may_not_be_written_is_read(small_disk: Path) -> None:
    index = Imagined(SqliteHome(small_disk))
    begin(index)
    before = set(small_disk.rglob("*"))
    remounted = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remounted, check=True)

    check_whole(index, 0, 0)
    with pytest.raises(StoreError, match=r"Read-only file system"):
        index.open(write=True)

    assert set(small_disk.rglob("*")) == before


def test_what_a_reader_without_room_for_a_lock_was_told_counts_only_if_no_one_wrote(
    small_disk: Path,
) -> None:
    """A writer comes between its question and its answer: it asks again."""
    begin(Imagined(SqliteHome(small_disk)))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with SqliteStore.open(small_disk / "index") as reader:
        asked = 0

        def question(db: sqlite3.Connection) -> int:
            nonlocal asked
            asked += 1
            (images,) = db.execute("SELECT count(*) FROM images").fetchone()
            if asked == 1:
                subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
                with SqliteStore.open(small_disk / "index", write=True) as writer:
                    writer.delete(writer.ids())
            return int(images)

        assert reader._database.read(question) == 0
        assert asked == 2
