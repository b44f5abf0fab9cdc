"""One engine of benchmarks/search.py, in a process of its own: build it, or open it and answer.

    python benchmarks/search_engine.py list | build NAME | serve NAME   (search.py calls these)

All graphs have the same number of links and the same widths of search.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import Bundle
from miniclip.arrays import FloatArray, IntArray
from miniclip.index.nearest import CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Model, NewImage

TOP = 10
BLOCK = 20_000
Search = Callable[[FloatArray], IntArray]


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("list", "build", "serve"))
    parser.add_argument("name", nargs="?", choices=list(ENGINES))
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--rows", type=Path, help="vectors (N, D) float32, .npy")
    parser.add_argument("--queries", type=Path, help="vectors (Q, D) float32, .npy")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    if options.what == "list":
        missing = {name: needs for name, (needs, *_) in ENGINES.items() if not find_spec(needs)}
        print(json.dumps({name: missing.get(name) for name in ENGINES}))
    elif options.what == "build":
        ENGINES[options.name][1](options.rows, options.place)
    else:
        serve(options.name, options.place, options.queries)


def serve(name: str, place: Path, queries: Path) -> None:
    """Answer lines on stdin: "round" with seconds and rows found, "memory" with resident MB."""
    wanted = np.load(queries)
    __import__(ENGINES[name][0])
    before = resident_megabytes()
    search = ENGINES[name][2](place)
    for line in sys.stdin:
        if line.strip() == "memory":
            answer: dict[str, Any] = {"resident": round(resident_megabytes() - before, 1)}
        else:
            seconds, found = [], []
            for query in wanted:
                started = time.perf_counter()
                rows = search(query)
                seconds.append(time.perf_counter() - started)
                found.append(rows.tolist())
            answer = {"seconds": seconds, "found": found}
        print(json.dumps(answer), flush=True)


def resident_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


# The engines: one function builds on disk, one opens and returns how to search


def build_numpy(rows: Path, place: Path) -> None:
    place.symlink_to(rows)


def open_numpy(place: Path) -> Search:
    matrix = np.load(place)

    def search(query: FloatArray) -> IntArray:
        cosines = matrix @ query
        best = np.argpartition(-cosines, TOP)[:TOP]
        found: IntArray = best[np.argsort(-cosines[best])]
        return found

    return search


def build_faiss(rows: Path, place: Path) -> None:
    import faiss

    matrix = np.load(rows, mmap_mode="r")
    index: Any = faiss.IndexFlatIP(matrix.shape[1])
    if place.name == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(matrix.shape[1], CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = EXPANSION_ADD, EXPANSION_SEARCH
    for start in range(0, len(matrix), BLOCK):
        index.add(np.ascontiguousarray(matrix[start : start + BLOCK]))
    faiss.write_index(index, str(place))


def open_faiss(place: Path) -> Search:
    import faiss

    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    index = faiss.read_index(str(place))
    return lambda query: index.search(query[None], TOP)[1][0]


def build_lancedb(rows: Path, place: Path) -> None:
    import lancedb
    import pyarrow as pa

    matrix = np.load(rows, mmap_mode="r")
    dim = matrix.shape[1]
    schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

    def batches() -> Iterator[Any]:
        for start in range(0, len(matrix), BLOCK):
            block = np.ascontiguousarray(matrix[start : start + BLOCK])
            numbers = pa.array(np.arange(start, start + len(block)))
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim)
            yield pa.record_batch([numbers, vectors], schema=schema)

    lancedb.connect(place).create_table("rows", batches(), schema=schema)


def open_lancedb(place: Path) -> Search:
    import lancedb

    table: Any = lancedb.connect(place).open_table("rows")

    def search(query: FloatArray) -> IntArray:
        found = table.search(query).distance_type("dot").limit(TOP).select(["row", "_distance"])
        rows: IntArray = found.to_arrow()["row"].to_numpy()
        return rows

    return search


def build_usearch_flat(rows: Path, place: Path) -> None:
    with place.open("wb") as stream:
        np.save(stream, np.load(rows, mmap_mode="r").astype(np.float16))


def open_usearch_flat(place: Path) -> Search:
    from usearch.index import search

    matrix, threads = np.load(place), len(os.sched_getaffinity(0))
    return lambda query: search(
        matrix, query.astype(np.float16)[None], TOP, "ip", exact=True, threads=threads
    ).keys.astype(np.int64)


def build_usearch_hnsw(rows: Path, place: Path) -> None:
    matrix = np.load(rows, mmap_mode="r")
    index = usearch_index(matrix.shape[1])
    for start in range(0, len(matrix), BLOCK):
        block = matrix[start : start + BLOCK]
        index.add(np.arange(start, start + len(block), dtype=np.uint64), block)
    index.save(place)


def open_usearch_hnsw(place: Path) -> Search:
    from usearch.index import Index

    index = usearch_index((Index.metadata(place) or {})["dimensions"])
    index.load(place)
    return lambda query: index.search(query, TOP, threads=1).keys.astype(np.int64)


def usearch_index(dim: int) -> Any:
    from usearch.index import Index

    return Index(
        ndim=dim, metric="ip", dtype="f16", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )  # fmt: skip


def build_ours_exact(rows: Path, place: Path) -> None:
    """Make an index of images that are not there, by the shipped model; image n + 1 has row n."""
    matrix, bundle = np.load(rows, mmap_mode="r"), Bundle.resolve("default")
    model = Model(bundle.fingerprint, bundle.name, matrix.shape[1])
    with SqliteStore.open(place, write=True, graph_from=1 << 60) as store:
        store.use_model(model)
        store.remember({"roots": '["."]'})
        for start in range(0, len(matrix), BLOCK):
            block = matrix[start : start + BLOCK]
            images = [
                NewImage(
                    path=f"{row // 1000}/photo {row}.jpg",
                    content=hashlib.sha256(row.to_bytes(8)).digest(),
                    size=row,
                    mtime_ns=row,
                )
                for row in range(start, start + len(block))
            ]
            store.upsert(images, block)


def build_ours_graph(rows: Path, place: Path) -> None:
    """Begin with a copy of the exact index, which is built before."""
    if not (exact := place.with_name("ours-exact")).exists():
        build_ours_exact(rows, exact)
    shutil.copytree(exact, place)
    with SqliteStore.open(place, write=True, graph_from=0) as store:
        store.use_model(next(iter(store.models())))
        store.optimise()


def open_ours(place: Path) -> Search:
    store = SqliteStore.open(place)
    store.use_model(next(iter(store.models())))
    return lambda query: np.array([hit.id - 1 for hit in store.nearest(query, top=TOP)])


ENGINES: dict[str, tuple[str, Callable[[Path, Path], None], Callable[[Path], Search]]] = {
    # name -> (module that it needs, how to build, how to open)
    "numpy": ("numpy", build_numpy, open_numpy),
    "faiss-flat": ("faiss", build_faiss, open_faiss),
    "faiss-hnsw": ("faiss", build_faiss, open_faiss),
    "lancedb": ("lancedb", build_lancedb, open_lancedb),
    "usearch-flat": ("usearch", build_usearch_flat, open_usearch_flat),
    "usearch-hnsw": ("usearch", build_usearch_hnsw, open_usearch_hnsw),
    "ours-exact": ("miniclip", build_ours_exact, open_ours),
    "ours-graph": ("miniclip", build_ours_graph, open_ours),
}


if __name__ == "__main__":
    main()
