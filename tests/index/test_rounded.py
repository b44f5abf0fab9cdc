"""Rows rounded to int8 lose no answer, by themselves and in an index that is asked again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.arrays import FloatArray, unit_rows
from miniclip.index import sqlite_vectors
from miniclip.index.nearest import nearest_rows
from miniclip.index.rounded import RoundedRows
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import DamagedStoreError
from miniclip.index.vector_matrix import HalfArray
from tests.index.store_values import BEACH, DIM, image, read, vector, vectors

NONE = np.empty(0, dtype=np.int64)


def halves(count: int, dim: int, seed: int, spread: float) -> HalfArray:
    """Return unit rows (N, D) float16, the closer to one another the smaller the spread."""
    chance = np.random.default_rng(seed)
    rows = chance.standard_normal(dim) + spread * chance.standard_normal((count, dim))
    return unit_rows(rows).astype(np.float16)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.sampled_from((1, 2, 63, 640, 5000)),
    dim=st.sampled_from((1, 3, 33, 512)),
    top=st.sampled_from((1, 10, 300)),
    spread=st.sampled_from((0.001, 0.1, 10.0)),
    seed=st.integers(0, 99),
)
def test_no_candidate_is_missing(count: int, dim: int, top: int, spread: float, seed: int) -> None:
    rows = halves(count, dim, seed, spread)
    chance = np.random.default_rng(seed)
    query: FloatArray = unit_rows(chance.standard_normal((1, dim)))[0]
    dead = np.flatnonzero(chance.random(count) < 0.2)
    some = np.setdiff1d(np.flatnonzero(chance.random(count) < 0.5), dead)
    rounded = RoundedRows.of(rows)

    alive = rounded.candidates(query, top, dead=dead, among=None)
    among = rounded.candidates(query, top, dead=dead, among=some)

    wanted = nearest_rows(rows, query, top=top, dead=dead).slots
    assert set(wanted.tolist()) <= set(alive.tolist())
    assert not set(dead.tolist()) & set(alive.tolist())
    wanted = nearest_rows(rows, query, top=top, among=some).slots
    assert set(wanted.tolist()) <= set(among.tolist()) <= set(some.tolist())


def test_few_rows_are_candidates() -> None:
    rows = halves(5000, 512, seed=1, spread=10)
    query: FloatArray = unit_rows(rows[7:8].astype(np.float32))[0]

    assert len(RoundedRows.of(rows).candidates(query, 10, dead=NONE, among=None)) < 500


def test_what_rounding_takes_away_is_known() -> None:
    rows = halves(300, 48, seed=2, spread=1)
    rounded = RoundedRows.of(rows)

    missing = rows.astype(np.float64) - rounded.codes * rounded.scale[:, None].astype(np.float64)

    np.testing.assert_allclose(np.linalg.norm(missing, axis=1), rounded.rest, rtol=1e-3, atol=1e-6)
    assert rounded.rest.max() < 0.02


def test_a_row_without_numbers_is_always_a_candidate() -> None:
    rows = halves(400, 16, seed=3, spread=1)
    rows[123, 4] = np.nan
    query: FloatArray = unit_rows(rows[:1].astype(np.float32))[0]

    assert 123 in RoundedRows.of(rows).candidates(query, 3, dead=NONE, among=None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round a few rows already."""
    monkeypatch.setattr(sqlite_vectors, "ROUND_FROM", 10)


@pytest.mark.usefixtures("small")
def test_an_index_asked_again_answers_the_same_while_it_grows(tmp_path: Path) -> None:
    numbers = list(range(200))
    with SqliteStore.open(tmp_path, write=True) as writer:
        writer.use_model(BEACH)
        ids = writer.upsert([image(f"{n}.jpg", n) for n in numbers], vectors(*numbers))
        with read(tmp_path) as reader:
            first = reader.nearest(vector(500), top=20)
            assert reader._images is not None
            assert reader._images._rounded is None
            assert reader.nearest(vector(500), top=20) == first
            assert reader._images._rounded is not None

            writer.upsert([image("new.jpg", 500)], vectors(500))
            assert reader.nearest(vector(500), top=1)[0].cosine == pytest.approx(1, abs=1e-3)
            writer.delete([first[0].id])
            without = [hit.id for hit in first[1:]]
            assert [hit.id for hit in reader.nearest(vector(500), top=20)][1:20] == without

            writer.delete(ids[:100])
            writer.optimise()  # copies the living rows to a new file
            twice = [reader.nearest(vector(500), top=20) for _ in range(2)]
            assert twice[0] == twice[1]
            assert not {hit.id for hit in twice[0]} & set(ids[:100])


@pytest.mark.usefixtures("small")
def test_damage_is_seen_as_before(tmp_path: Path) -> None:
    numbers = list(range(50))
    with SqliteStore.open(tmp_path, write=True) as writer:
        writer.use_model(BEACH)
        writer.upsert([image(f"{n}.jpg", n) for n in numbers], vectors(*numbers))
    with read(tmp_path) as reader:
        for _ in range(2):
            reader.nearest(vector(3), top=1)
        (file,) = (path for path in tmp_path.glob("vectors-*.f16") if path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[3 * 2 * DIM] ^= 1
        file.write_bytes(content)

        with pytest.raises(DamagedStoreError, match="damaged"):
            reader.nearest(vector(3), top=1)
