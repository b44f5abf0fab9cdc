"""A burst of changes below folders is noticed once; an index writing inside them is not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from miniclip.errors import DatasetError, MissingExtraError
from miniclip.index import watch
from miniclip.index.watch import changes

pytest.importorskip("watchfiles")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / ".miniclip").mkdir(parents=True)
    return folder


@pytest.fixture
def bursts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue[int]]:
    """Watch the folder in a thread; give the queue of what it notices."""
    monkeypatch.setattr(watch, "QUIET_MS", 100)
    found: Queue[int] = Queue()
    stop = threading.Event()

    def follow() -> None:
        for burst in changes([folder], stop=stop):
            found.put(burst)

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)  # until the system watches
    yield found
    stop.set()
    thread.join()


def test_a_burst_is_noticed_once(folder: Path, bursts: Queue[int]) -> None:
    for number in range(5):
        (folder / f"{number}.jpg").write_text("x")

    assert bursts.get(timeout=10) >= 5
    with pytest.raises(Empty):
        bursts.get(timeout=0.5)


def test_hidden_files_do_not_count_but_the_patterns_do(folder: Path, bursts: Queue[int]) -> None:
    (folder / ".miniclip" / "index.sqlite3").write_text("x")
    (folder / ".hidden.jpg").write_text("x")
    with pytest.raises(Empty):
        bursts.get(timeout=1)

    (folder / ".miniclipignore").write_text("*.png")

    assert bursts.get(timeout=10)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot watch"):
        next(changes([tmp_path / "none"]))


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)

    with pytest.raises(MissingExtraError, match=r"miniclip\[watch\]"):
        next(changes([tmp_path]))
