"""Any sequence of changes, runs and kills leaves the index equal to the folder.

The naive model is the folder itself, read again from scratch after every run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from miniclip.collection import Index
from miniclip.errors import DatasetError
from miniclip.index.sqlite_store import SqliteStore
from miniclip.testing import FakeEncoder
from tests.index.photos_on_disk import assert_in_step, assert_own_vectors, date, held, photo, truth

KILLS = int(os.environ.get("MINICLIP_KILLS", "3"))
NAMES = [f"{folder}{name}.png" for folder in ("", "sub/", "sub/deeper/") for name in "abc"]


class Killed(BaseException):
    """Stands for the end of the process at a call to the store."""


class Folder(RuleBasedStateMachine):
    """A folder in which anything may happen, and its index."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="miniclip-test-"))
        self.folder = self.home / "photos"
        self.folder.mkdir()
        self.index = Index.open(self.folder, FakeEncoder(), directory=self.home / "index")
        self.next_photo = 0
        self.ever: set[bytes] = set()  # contents that some run may have embedded

    def teardown(self) -> None:
        self.index.close()
        shutil.rmtree(self.home)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*.png"))

    def pick(self, data: st.DataObject) -> Path:
        return data.draw(st.sampled_from(self.files()), label="file")

    @rule(name=st.sampled_from(NAMES))
    def write(self, name: str) -> None:
        """Add a file, or change the one that is there."""
        self.next_photo += 1
        photo(self.folder / name, self.next_photo)

    @precondition(lambda self: self.files())
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def rename(self, data: st.DataObject, name: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self.pick(data).replace(self.folder / name)

    @precondition(lambda self: self.files())
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def copy(self, data: st.DataObject, name: str) -> None:
        source = self.pick(data)
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        if source != self.folder / name:
            date(Path(shutil.copy(source, self.folder / name)))

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        one, two = self.pick(data), self.pick(data)
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
        date(one)
        date(two)

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.pick(data).unlink()

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        date(self.pick(data))

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        path = self.pick(data)
        path.write_bytes(path.read_bytes()[:15])
        date(path)

    @rule(prune=st.booleans())
    def sync(self, prune: bool) -> None:
        before = set(held(self.index).values()) if self.index.location.exists else set()
        if before and not self.files() and not prune:
            with pytest.raises(DatasetError, match="is empty"):
                self.index.sync()
            return
        expected = truth(self.folder)
        contents = set(expected.values())

        result = self.index.sync(prune=prune)

        assert_in_step(self.index, self.folder)
        assert len(contents - self.ever - before) <= result.embedded <= len(contents - before)
        assert result.images == len(expected)
        assert {Path(entry.name) for entry in result.skipped} == {*self.files()} - expected.keys()
        if prune:
            assert result.missing == 0
        self.ever |= contents
        again = self.index.sync(prune=True)
        quiet = (again.added, again.changed, again.moved, again.deleted, again.embedded)
        assert (quiet, again.unchanged) == ((0,) * 5, len(expected))

    @rule(prune=st.booleans(), call=st.integers(0, 6), before=st.booleans())
    def kill(self, prune: bool, call: int, before: bool) -> None:
        """End at a write to a store, just before or just after it takes place."""
        writes = ["upsert", "update", "delete", "remember", "optimise"]
        left = [call]

        def deadly(write: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0 and before:
                    raise Killed
                result = write(*arguments, **options)
                if left[0] < 0:
                    raise Killed
                return result

            return call

        self.ever |= set(truth(self.folder).values())
        with pytest.MonkeyPatch.context() as patch:
            for name in writes:
                patch.setattr(SqliteStore, name, deadly(getattr(SqliteStore, name)))
            with suppress(Killed, DatasetError):
                self.index.sync(prune=prune)
        if self.index.location.exists:
            self.index.store.verify()  # type: ignore[attr-defined]

    @invariant()
    def every_vector_belongs_to_the_content_beside_it(self) -> None:
        """Also between runs, while the files are already others."""
        if not self.index.location.exists or not self.index.store.count():
            return
        present = truth(self.folder)
        records = [
            record for record in self.index if present.get(Path(record.path)) == record.content
        ]
        if records:
            found = self.index.search(
                self.index.store.vectors([records[0].id])[0], top=len(self.index)
            )
            assert len({hit.path for hit in found}) == len(found) == len(self.index)


TestFolder = Folder.TestCase
TestFolder.settings = settings(
    max_examples=20,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

WRITER = """
import sys
from pathlib import Path
from miniclip.collection import Index
from miniclip.testing import FakeEncoder
from tests.index.photos_on_disk import photo

folder, directory, round = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
with Index.open(folder, FakeEncoder(), directory=directory) as index:
    print("ready", flush=True)
    for turn in range(1000):
        index.sync(prune=turn % 2 == 1)
        for number in range(40):  # a third renamed, a third changed, a third new or gone
            path = folder / f"{number}.png"
            new = 100_000 * round + 1000 * turn + number
            if number % 3 == 0 and path.exists():
                path.replace(folder / f"{(number + 21) % 42}.png")
            elif number % 3 == 1:
                photo(path, new)
            elif path.exists():
                path.unlink()
            else:
                photo(path, new)
"""


def test_no_kill_harms_the_index_or_a_reader(tmp_path: Path) -> None:
    """A writer is killed at random moments while a reader goes on searching."""
    folder, directory = tmp_path / "photos", tmp_path / "index"
    for number in range(150):
        photo(folder / f"{number}.png", number)
    moments = np.random.default_rng(0).uniform(0.0, 1.0, KILLS)
    stop, errors, searches = threading.Event(), [], [0]

    def read() -> None:
        query = FakeEncoder().encode_texts(["a red thing"])[0]
        while not stop.is_set():
            if not directory.joinpath("index.sqlite3").exists():
                time.sleep(0.01)
                continue
            try:
                with Index.open(directory, FakeEncoder()) as index:
                    for _ in range(10):
                        hits = index.search(query, top=20)
                        assert len({hit.path for hit in hits}) == len(hits)
                        searches[0] += bool(hits)
            except Exception as error:
                errors.append(error)

    with Index.open(folder, FakeEncoder(), directory=directory) as index:
        index.sync()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number, moment in enumerate(moments):
            words = [sys.executable, "-c", WRITER, str(folder), str(directory), str(number + 1)]
            writer = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moment)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
            for half in folder.glob("*.png"):  # the writer was killed writing these
                if not half.stat().st_size:
                    half.unlink()
            with Index.open(folder, FakeEncoder(), directory=directory) as index:
                held(index)
                index.store.verify()  # type: ignore[attr-defined]
                index.sync()
                assert_in_step(index, folder)
    finally:
        stop.set()
        reader.join()
    assert errors == []
    assert searches[0] > KILLS
    with Index.open(folder, FakeEncoder(), directory=directory) as index:
        assert_own_vectors(index)
