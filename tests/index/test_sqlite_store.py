"""What is particular to the SQLite store: its files, their damage, and what comes after."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from miniclip.errors import StoreError
from miniclip.index.sqlite_schema import DATABASE_FILE, MIGRATIONS
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import (
    DamagedStoreError,
)
from tests.index.store_values import BEACH, DIM, image, read, vector, vectors


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(directory: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(directory, write=True) as store:
        store.use_model(BEACH)
        yield store


def test_there_is_nothing_to_read_before_there_is_an_index(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no index at .*miniclip index"):
        SqliteStore.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def damaged_database(directory: Path) -> None:
    (directory / DATABASE_FILE).write_bytes(b"this is not a database" * 1000)


def truncated_database(directory: Path) -> None:
    path = directory / DATABASE_FILE
    path.write_bytes(path.read_bytes()[:20_000])


def foreign_database(directory: Path) -> None:
    (directory / DATABASE_FILE).unlink()
    with closing(sqlite3.connect(directory / DATABASE_FILE)) as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")


def missing_vectors(directory: Path) -> None:
    vector_file(directory).unlink()


def truncated_vectors(directory: Path) -> None:
    os.truncate(vector_file(directory), 100)


def altered_vectors(directory: Path) -> None:
    path = vector_file(directory)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def shifted_vectors(directory: Path) -> None:
    path = vector_file(directory)
    content = path.read_bytes()
    path.write_bytes(content[DIM * 2 :] + content[: DIM * 2])


def one_row_of_no_numbers(directory: Path) -> None:
    path = vector_file(directory)
    content = path.read_bytes()
    path.write_bytes(content[: -DIM * 2] + b"\xff" * DIM * 2)


def vector_file(directory: Path) -> Path:
    return max(directory.glob("vectors-*.f16"), key=lambda path: path.stat().st_size)


def look_through(directory: Path) -> None:
    with read(directory) as reader:
        reader.nearest(vector(3), top=3)
        reader.records(range(1, 100))


@pytest.mark.parametrize(
    "damage",
    [
        damaged_database,
        truncated_database,
        foreign_database,
        missing_vectors,
        truncated_vectors,
        altered_vectors,
        shifted_vectors,
        one_row_of_no_numbers,
    ],
)
def test_damage_is_named_with_its_cure_which_works(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    everything = [image(f"{n}.jpg", n, captions=(f"caption {n}",)) for n in range(100)]
    with SqliteStore.open(directory, write=True) as store:
        store.use_model(BEACH)
        store.upsert(everything, vectors(*range(100)))
    damage(directory)

    with pytest.raises(DamagedStoreError, match="--rebuild"):
        look_through(directory)

    with SqliteStore.open(directory, write=True, rebuild=True) as store:
        store.use_model(BEACH)
        assert store.count() == 0
        store.upsert(everything, vectors(*range(100)))
        assert store.verify() == 100
        assert len(list(directory.glob("vectors-*"))) == 1


def test_readers_go_on_while_a_sound_index_is_built_again(directory: Path) -> None:
    with SqliteStore.open(directory, write=True) as store:
        store.use_model(BEACH)
        store.upsert([image("a.jpg", 1)], vectors(1))
    with read(directory) as reader:
        assert len(reader.nearest(vector(1), top=1)) == 1
        with SqliteStore.open(directory, write=True, rebuild=True) as store:
            assert reader.nearest(vector(1), top=1) == []
            store.use_model(BEACH)
            store.upsert([image("b.jpg", 2)], vectors(2))
            (hit,) = reader.nearest(vector(2), top=1)
            assert reader.records([hit.id])[0].path == "b.jpg"


def test_an_index_of_a_newer_miniclip_is_left_alone(store: SqliteStore, directory: Path) -> None:
    store.close()
    with closing(sqlite3.connect(directory / DATABASE_FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")

    for write in (False, True):
        with pytest.raises(StoreError, match=r"newer miniclip .* upgrade"):
            SqliteStore.open(directory, write=write)


def test_rows_of_the_deleted_are_reused_by_copying_and_old_files_go(
    store: SqliteStore, directory: Path
) -> None:
    ids = store.upsert([image(f"{n}.jpg", n) for n in range(100)], vectors(*range(100)))
    with read(directory) as reader:
        reader.nearest(vector(99), top=1)  # has mapped the file that will go
        store.delete(ids[:50])
        store.optimise()

        assert vector_file(directory).stat().st_size == 50 * DIM * 2
        assert len(list(directory.glob("vectors-*"))) == 1
        assert reader.nearest(vector(99), top=1)[0].id == ids[99]
        assert reader.verify() == 50


def test_what_a_killed_writer_left_behind_is_overwritten_or_removed(
    store: SqliteStore, directory: Path
) -> None:
    store.upsert([image("a.jpg", 1)], vectors(1))
    store.close()
    with vector_file(directory).open("ab") as stream:
        stream.write(b"half a row")
    left = directory / "vectors-01234567-0123456789ab.f16"
    left.write_bytes(b"a file that was about to be named")
    mine = directory / "vectors-of-mine.f16"
    mine.write_bytes(b"not ours")

    with SqliteStore.open(directory, write=True) as next_store:
        next_store.use_model(BEACH)
        next_store.upsert([image("b.jpg", 2)], vectors(2))

        assert next_store.verify() == 2
    assert not left.exists()
    assert mine.exists()
