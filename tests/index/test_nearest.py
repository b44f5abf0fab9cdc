"""The closest rows, exactly and by graph, against sorting all cosines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.index import blocks, sqlite_vectors
from miniclip.index.nearest import Found, Graph, nearest_rows
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Compare, DamagedStoreError
from miniclip.index.vector_matrix import HalfArray, append_rows, map_rows
from tests.index.store_values import BEACH, DIM, image, read


def halves(count: int, dim: int, seed: int = 0, clusters: int = 0) -> HalfArray:
    """Return unit rows (N, D) float16, around some centres if asked for."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim))
    if clusters:
        rows = 0.6 * rows + rng.standard_normal((clusters, dim))[rng.integers(clusters, size=count)]
    return unit_rows(rows).astype(np.float16)


def query_of(dim: int, seed: int = 9) -> FloatArray:
    row: FloatArray = unit_rows(np.random.default_rng(seed).standard_normal((1, dim)))[0]
    return row


def naive(
    rows: HalfArray, query: FloatArray, top: int, allowed: NDArray[Any] | None = None
) -> Found:
    """Sort all cosines, best first, equal ones by slot; those equal to the last one count."""
    slots = np.arange(len(rows)) if allowed is None else allowed
    cosines = (rows[slots].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = np.lexsort((slots, -cosines))
    if len(order) > top:
        order = order[cosines[order] >= cosines[order[top - 1]]]
    return Found(slots[order], np.clip(cosines[order], -1, 1))


def same(found: Found, expected: Found) -> None:
    np.testing.assert_array_equal(found.slots, expected.slots)
    np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.sampled_from((0, 1, 2, 63, 64, 65, 640, 1000, 5000)),
    dim=st.sampled_from((1, 3, 16, 33, 512)),
    top=st.sampled_from((1, 2, 10, 100, 2000)),
    copies=st.sampled_from((1, 1, 7, 100)),
    data=st.data(),
)
def test_exact_search_is_sorting(
    count: int, dim: int, top: int, copies: int, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 99))
    rows = np.repeat(halves(-(-count // copies), dim, seed), copies, axis=0)[:count]
    chance = np.random.default_rng(seed)
    dead = np.flatnonzero(chance.random(count) < data.draw(st.sampled_from((0, 0.1, 0.95, 1))))
    alive = np.setdiff1d(np.arange(count), dead)
    query = query_of(dim, seed)

    same(nearest_rows(rows, query, top=top, dead=dead), naive(rows, query, top, alive))
    same(nearest_rows(rows, query, top=top, among=alive), naive(rows, query, top, alive))


def test_blocks_in_several_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, query = halves(3000, 32), query_of(32)
    whole = nearest_rows(rows, query, top=20)
    monkeypatch.setattr(blocks, "BLOCK", 100)

    same(nearest_rows(rows, query, top=20), whole)
    same(whole, naive(rows, query, 20))


def test_rows_that_differ_by_less_than_a_kernel_can_see_are_in_the_right_order() -> None:
    """A hundred rows within 1e-4 of one another; float16 products alone would mix them up."""
    query = query_of(512)
    rows = unit_rows(query + 1e-3 * halves(100, 512).astype(np.float32)).astype(np.float16)

    same(nearest_rows(rows, query, top=10), naive(rows, query, 10))


def test_a_mapped_file_is_searched_as_it_lies(tmp_path: Path) -> None:
    rows = halves(500, 24)
    append_rows(tmp_path / "rows.f16", rows, after=0)
    query = query_of(24)

    mapped = map_rows(tmp_path / "rows.f16", rows=400, dim=24)

    same(nearest_rows(mapped, query, top=5), naive(rows[:400], query, 5))


# The graph


def test_a_graph_finds_nearly_all_and_can_be_extended(tmp_path: Path) -> None:
    rows = halves(4000, 64, clusters=100)
    none = np.empty(0, dtype=np.int64)
    Graph.build(rows[:3000], tmp_path / "first", dead=none)
    Graph.build(rows, tmp_path / "second", dead=none, extend=(tmp_path / "first", 3000))

    graph = Graph.view(tmp_path / "second", covered=4000, dim=64)

    right = 0
    for seed in range(50):
        query = unit_rows(rows[seed * 77].astype(np.float32) + 0.05 * query_of(64, seed))
        expected = naive(rows, query, 10).slots[:10]
        right += len(set(graph.candidates(query, 26).tolist()) & set(expected.tolist()))
    assert right / 500 >= 0.99


ROWS = 4000


@pytest.fixture(scope="module")
def with_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an index with a graph over 4,000 images; do not alter it."""
    directory = tmp_path_factory.mktemp("graph")
    with SqliteStore.open(directory, write=True, graph_from=ROWS) as store:
        store.use_model(BEACH)
        fill(store, 0, ROWS)
        store.optimise()
    return directory


def fill(store: SqliteStore, first: int, last: int) -> None:
    rows = halves(last, DIM, clusters=40).astype(np.float32)
    store.upsert([image(f"{n}.jpg", n) for n in range(first, last)], unit_rows(rows[first:last]))


def exact_ids(store: SqliteStore, query: FloatArray, **options: Any) -> list[int]:
    """Ask the same without the graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_vectors.VectorTable, "_by_graph", lambda *_arguments: None)
        return [hit.id for hit in store.nearest(query, **options)]


def graph_ids(store: SqliteStore, query: FloatArray, **options: Any) -> list[int]:
    """Ask, and make sure that the graph answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_vectors, "nearest_rows", only_tails)
        return [hit.id for hit in store.nearest(query, **options)]


def only_tails(rows: HalfArray, query: FloatArray, **options: Any) -> Found:
    assert options["among"] is not None, "the exact search was asked"
    assert len(options["among"]) < ROWS // 2, "the exact search was asked"
    return nearest_rows(rows, query, **options)


def test_the_store_asks_its_graph_and_finds_nearly_the_same(with_graph: Path) -> None:
    right = 0
    with read(with_graph) as store:
        for seed in range(50):
            query = query_of(DIM, seed)
            found = graph_ids(store, query, top=10)
            assert len(found) == 10
            right += len(set(found) & set(exact_ids(store, query, top=10)))
    assert right / 500 >= 0.99


def test_with_a_filter_enough_are_fetched_or_the_few_are_searched_exactly(with_graph: Path) -> None:
    query = query_of(DIM)
    with read(with_graph) as store:
        half = Compare("size", "<", ROWS // 2)
        assert graph_ids(store, query, top=5, where=half) == exact_ids(
            store, query, top=5, where=half
        )
        few = Compare("size", "<", 7)
        assert store.nearest(query, top=9, where=few) == [
            hit for hit in store.nearest(query, top=ROWS) if hit.id <= 7
        ]


def test_what_was_added_or_deleted_since_counts_at_once(tmp_path: Path) -> None:
    query = query_of(DIM)
    with SqliteStore.open(tmp_path, write=True, graph_from=ROWS) as store:
        store.use_model(BEACH)
        fill(store, 0, ROWS)
        store.optimise()
        best = exact_ids(store, query, top=3)
        store.delete(best[:2])
        (added,) = store.upsert([image("exactly this.jpg", 1)], query[None])

        assert graph_ids(store, query, top=2) == [added, best[2]]

        fill(store, 0, ROWS // 4)  # again: many rows die, and as many are new
        assert graph_ids(store, query, top=2)[0] == added
        graphs = set(tmp_path.glob("graph-*"))
        store.optimise()
        assert len(set(tmp_path.glob("graph-*")) - graphs) == 1
        assert graph_ids(store, query, top=2) == exact_ids(store, query, top=2)
        assert len(list(tmp_path.glob("graph-*"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "altered link", "altered header", "missing"])
def test_a_damaged_graph_is_named_and_never_followed(
    with_graph: Path, tmp_path: Path, damage: str
) -> None:
    (graph,) = with_graph.glob("graph-*")
    for file in with_graph.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray(graph.read_bytes())
    if damage == "truncated":
        content = content[:-100]
    elif damage == "altered link":
        content[-100] ^= 1
    elif damage == "altered header":
        content[0] ^= 1
    (tmp_path / graph.name).write_bytes(content)
    if damage == "missing":
        (tmp_path / graph.name).unlink()

    with read(tmp_path) as store, pytest.raises(DamagedStoreError, match="--rebuild"):
        store.nearest(query_of(DIM), top=3)
