"""Rows on disk: appended, mapped, never touched again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from miniclip.errors import StoreError
from miniclip.index.store import DamagedStoreError
from miniclip.index.vector_matrix import append_rows, map_rows
from tests.index.store_values import DIM, vectors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.f16"


def test_rows_come_back_as_half_precision_numbers(path: Path) -> None:
    kept = append_rows(path, vectors(1, 2), after=0)
    append_rows(path, vectors(3), after=2)

    mapped = map_rows(path, rows=3, dim=DIM)

    np.testing.assert_array_equal(mapped, vectors(1, 2, 3).astype(np.float16))
    np.testing.assert_array_equal(kept, mapped[:2])
    assert path.stat().st_size == 3 * DIM * 2


def test_a_mapping_sees_nothing_of_what_comes_behind_it(path: Path) -> None:
    append_rows(path, vectors(1, 2), after=0)
    mapped = map_rows(path, rows=2, dim=DIM)
    append_rows(path, vectors(3, 4), after=2)

    np.testing.assert_array_equal(mapped, vectors(1, 2).astype(np.float16))
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0


def test_rows_that_nobody_counted_are_written_over(path: Path) -> None:
    append_rows(path, vectors(1), after=0)
    append_rows(path, vectors(7, 8, 9), after=1)  # killed before it was counted
    append_rows(path, vectors(2), after=1)

    np.testing.assert_array_equal(map_rows(path, rows=2, dim=DIM), vectors(1, 2).astype(np.float16))


def test_no_rows_need_no_file(path: Path) -> None:
    assert map_rows(path, rows=0, dim=DIM).shape == (0, DIM)


def test_a_file_that_is_gone_or_too_short_is_told_apart(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        map_rows(path, rows=1, dim=DIM)
    append_rows(path, vectors(1, 2), after=0)
    os.truncate(path, DIM * 3)
    with pytest.raises(DamagedStoreError, match=r"truncated to 48 of 64 bytes .*--rebuild"):
        map_rows(path, rows=2, dim=DIM)


def test_a_full_disk_is_named_and_leaves_the_first_rows_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_rows(path, vectors(1), after=0)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device\); free some disk"):
        append_rows(path, vectors(2), after=1)
    np.testing.assert_array_equal(map_rows(path, rows=1, dim=DIM), vectors(1).astype(np.float16))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(path: Path) -> None:
    append_rows(path, vectors(1), after=0)
    path.chmod(0)
    with pytest.raises(StoreError, match=r"cannot read .*permissions"):
        map_rows(path, rows=1, dim=DIM)
