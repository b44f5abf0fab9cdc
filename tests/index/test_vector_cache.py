"""The cache file: what it remembers, what it refuses, and what it survives."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniclip.errors import StoreError
from miniclip.index.vector_cache import BUSY_SECONDS, MIGRATIONS, FileState, VectorCache

CAT, DOG = b"c" * 32, b"d" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite3"


def vector(*numbers: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(numbers, dtype=np.float32)


def test_a_vector_comes_back_exactly_to_the_model_that_made_it(path: Path) -> None:
    stored = vector(0.1, -2.5, 1e-30)
    with VectorCache.open(path) as cache:
        cache.store("model-a", {CAT: stored})
    with VectorCache.open(path) as cache:
        found = cache.load("model-a", [CAT, DOG])
        other = cache.load("model-b", [CAT])

    assert list(found) == [CAT]
    np.testing.assert_array_equal(found[CAT], stored)
    assert other == {}


def test_features_are_kept_apart_by_model_and_view(path: Path) -> None:
    with VectorCache.open(path) as cache:
        cache.store_features("m", "plain", {CAT: vector(1.0, 2.0)})
        cache.store_features("m", "flip", {CAT: vector(2.0, 1.0), DOG: vector(0.0, 0.0)})
    with VectorCache.open(path) as cache:
        plain = cache.load_features("m", "plain", [CAT, DOG])
        assert list(plain) == [CAT]
        np.testing.assert_array_equal(plain[CAT], [1.0, 2.0])
        np.testing.assert_array_equal(cache.load_features("m", "flip", [CAT])[CAT], [2.0, 1.0])
        assert cache.load_features("other", "plain", [CAT]) == {}
        assert cache.load("m", [CAT]) == {}


def test_facts_of_an_older_version_are_not_found(path: Path) -> None:
    with VectorCache.open(path) as cache:
        cache.store_facts(1, {CAT: "a cat"})
        assert cache.load_facts(1, [CAT, DOG]) == {CAT: "a cat"}
        assert cache.load_facts(2, [CAT]) == {}


def test_a_cache_of_the_first_format_keeps_its_vectors(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO vectors VALUES (?, 'm', ?)", (CAT, vector(1.5).tobytes()))
        connection.commit()

    with VectorCache.open(path) as cache:
        np.testing.assert_array_equal(cache.load("m", [CAT])[CAT], [1.5])
        cache.store_features("m", "plain", {CAT: vector(1.0)})
        assert list(cache.load_features("m", "plain", [CAT])) == [CAT]


def test_storing_again_replaces(path: Path) -> None:
    with VectorCache.open(path) as cache:
        cache.store("m", {CAT: vector(1.0)})
        cache.store("m", {CAT: vector(2.0), DOG: vector(3.0)})

        assert cache.load("m", [CAT])[CAT] == 2.0
        assert cache.count("m") == 2


def test_the_content_of_a_file_is_recalled_only_while_it_is_unchanged(path: Path) -> None:
    state = FileState(b"/photos/a\xff.jpg", size=10, mtime_ns=123)
    with VectorCache.open(path) as cache:
        cache.remember_contents({state: CAT})

        assert cache.recall_contents([state]) == {state: CAT}
        for changed in (state._replace(size=11), state._replace(mtime_ns=124)):
            assert cache.recall_contents([changed]) == {}


def test_a_batch_that_fails_leaves_nothing_behind(path: Path) -> None:
    with VectorCache.open(path) as cache:
        with pytest.raises(StoreError):
            cache.store("m", {CAT: vector(1.0), None: vector(2.0)})  # type: ignore[dict-item]

        assert cache.count("m") == 0


def test_a_file_that_is_no_database_is_refused_with_the_cure(path: Path) -> None:
    path.write_bytes(b"this is not a database, it only looks like one" * 100)

    with pytest.raises(
        StoreError, match=r"vectors\.sqlite3 is damaged .*delete that file, it will"
    ):
        VectorCache.open(path)


def test_damage_in_the_middle_of_the_file_is_named_too(path: Path) -> None:
    with VectorCache.open(path) as cache:
        for number in range(200):
            cache.store("m", {number.to_bytes(32, "big"): np.ones(64, np.float32)})
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x07" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreError, match="delete that file"), VectorCache.open(path) as cache:
        cache.load("m", [number.to_bytes(32, "big") for number in range(200)])


def test_a_file_of_a_newer_miniclip_is_left_alone(path: Path) -> None:
    VectorCache.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()

    with pytest.raises(StoreError, match=r"newer miniclip .* upgrade"):
        VectorCache.open(path)


def test_a_place_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot use the cache .*MINICLIP_HOME"):
        VectorCache.open(tmp_path / "missing" / "vectors.sqlite3")


def test_a_refused_switch_to_wal_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses it at once, whatever the timeout, when two processes switch together."""
    refusals = 2

    class Contended(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            nonlocal refusals
            if "journal_mode" in sql and refusals:
                refusals -= 1
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(sql, *parameters)

    connect = partial(sqlite3.connect, factory=Contended)
    monkeypatch.setattr(sqlite3, "connect", connect)

    with VectorCache.open(path) as cache:
        cache.store("m", {CAT: vector(1.0)})

    assert refusals == 0
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_several_processes_may_start_and_write_at_once(path: Path) -> None:
    assert BUSY_SECONDS >= 10
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from miniclip.index.vector_cache import VectorCache\n"
        "with VectorCache.open(Path(sys.argv[1])) as cache:\n"
        "    for number in range(20):\n"
        "        key = (sys.argv[2] + str(number)).encode().ljust(32)\n"
        "        cache.store('m', {key: np.ones(4, np.float32)})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "abcd"]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0, 0]
    with VectorCache.open(path) as cache:
        assert cache.count("m") == 80
