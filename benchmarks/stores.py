"""An index of N images in SQLite and in Milvus Lite: the same answers, and what they cost.

    python benchmarks/stores.py --images 100000 --dim 512

Fills an SQLite index with clustered random vectors, copies it to Milvus Lite and back, compares
checksums, searches and filters of both, and prints seconds. It needs miniclip[milvus].
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.index.address import Directory, InMilvus
from miniclip.index.copying import copy_index
from miniclip.index.location import Location
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Below, Both, Compare, Filter, Model, NewImage, Store

BATCH = 1_000
SEARCHES = 20
FILTERS: dict[str, Filter | None] = {
    "no filter": None,
    "half": Compare("size", "<", 50),
    "a folder and a date": Both((Below("/photos/3"), Compare("taken", ">=", "2024-09"))),
    "a tag": Compare("tag", "=", "tag 7"),
    "like": Compare("camera", "like", "%nikon 1%"),
    "like, in captions": Compare("caption", "like", "%photo 12_45"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    wanted = parser.parse_args()
    model = Model("s" * 64, "random", wanted.dim)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((256, wanted.dim))
    with tempfile.TemporaryDirectory() as folder:
        here = Location(Directory(Path(folder, "sqlite")))
        there = Location(InMilvus(str(Path(folder, "milvus.db"))))
        back = Location(Directory(Path(folder, "back")))
        timed("fill SQLite", lambda: fill(here.directory, model, wanted.images, centres, rng))
        sent = timed("copy to Milvus Lite, checked", lambda: copy_index(here, there))
        returned = timed("copy back, checked", lambda: copy_index(there, back))
        print(f"identical there and back: {sent == returned}")
        with SqliteStore.open(here.directory) as sqlite:
            milvus = there.address.open()
            compare(sqlite, milvus, model, some(centres, SEARCHES, rng))
            milvus.close()


def fill(directory: Path, model: Model, count: int, centres: Any, rng: np.random.Generator) -> None:
    with SqliteStore.open(directory, write=True) as store:
        store.use_model(model)
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            store.upsert([image(number) for number in numbers], some(centres, len(numbers), rng))
        store.optimise()


def image(number: int) -> NewImage:
    return NewImage(
        path=f"/photos/{number % 10}/{number}.jpg",
        content=hashlib.sha256(str(number).encode()).digest(),
        size=number % 100,
        mtime_ns=number,
        taken=f"2024-{number % 12 + 1:02}-01T00:00:00",
        camera=f"NIKON {number % 20}",
        captions=(f"photo {number}",),
        tags=(f"tag {number % 50}",),
    )


def some(centres: Any, count: int, rng: np.random.Generator) -> FloatArray:
    chosen = centres[rng.integers(len(centres), size=count)]
    return unit_rows(chosen + 1.5 * rng.standard_normal(chosen.shape))


def compare(sqlite: Store, milvus: Store, model: Model, queries: FloatArray) -> None:
    print(f"{'':22}  SQLite ms  Milvus ms  same first 10  same ids")
    for store in (sqlite, milvus):
        store.use_model(model)
    for name, where in FILTERS.items():
        answers, spent = [], []
        for store in (sqlite, milvus):
            store.nearest(queries[0], top=10, where=where)
            start = time.perf_counter()
            answers.append([store.nearest(query, top=10, where=where) for query in queries])
            spent.append((time.perf_counter() - start) / len(queries) * 1e3)
        same = np.mean([a == b for a, b in zip(*answers, strict=True)])
        equal = np.array_equal(sqlite.ids(where), milvus.ids(where))
        print(f"{name:22} {spent[0]:10.1f} {spent[1]:10.1f} {same:14.0%}  {equal}", flush=True)


def timed(what: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    found = work()
    print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
