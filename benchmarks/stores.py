"""An index of N images in SQLite and in Milvus Lite: the same answers, and what they cost.

    python -m benchmarks.stores --images 100000 --dim 256

Fills an SQLite index with clustered random vectors, copies it to Milvus Lite and back, compares
checksums, and holds searches and filters of both against plain arithmetic over all vectors. Exit
code 1 if a copy differs, a filter gives other images, or a search misses one of the first ten. It
needs miniclip[milvus]; tests/index/test_stores_agree.py runs it over few images.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.index.address import Directory, InMilvus
from miniclip.index.copying import copy_index
from miniclip.index.location import Location
from miniclip.index.sqlite_store import SqliteStore
from miniclip.index.store import Below, Both, Compare, Filter, Model, NewImage, Store

BATCH = 1_000
SEARCHES = 20
TOP = 10


class Question(NamedTuple):
    """A filter, and which images it means: their numbers (N,) -> bool (N,)."""

    where: Filter | None
    means: Callable[[IntArray], Any]


QUESTIONS = {
    "no filter": Question(None, lambda n: n >= 0),
    "half": Question(Compare("size", "<", 50), lambda n: n % 100 < 50),
    "a folder and a date": Question(
        Both((Below("/photos/3"), Compare("taken", ">=", "2024-09"))),
        lambda n: (n % 10 == 3) & (n % 12 >= 8),
    ),
    "a tag": Question(Compare("tag", "=", "tag 7"), lambda n: n % 50 == 7),
    "like": Question(
        Compare("camera", "like", "%nikon 1%"), lambda n: np.isin(n % 20, [1, *range(10, 20)])
    ),
    "like, in captions": Question(
        Compare("caption", "like", "%photo 1_45"), lambda n: (n // 1000 == 1) & (n % 100 == 45)
    ),
}


@dataclass(frozen=True)
class Answers:
    """What a store said to one filter.

    same_images: whether they are those that it means; recall: share of the nearest ten that were
    found, over all searches; first: ids (searches, 10 at most); milliseconds: median of a search.
    """

    same_images: bool
    recall: float
    first: list[list[int]]
    milliseconds: float


@dataclass(frozen=True)
class Report:
    """seconds: of filling and copying; stores: by name of the store and of the filter."""

    identical: bool
    seconds: dict[str, float]
    stores: dict[str, dict[str, Answers]]

    @property
    def fine(self) -> bool:
        """Whether nothing was lost, and both stores give the same, which is the truth."""
        here, there = self.stores.values()
        return self.identical and all(
            a.same_images and b.same_images and a.recall == b.recall == 1.0 and a.first == b.first
            for a, b in zip(here.values(), there.values(), strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(wanted.images, wanted.dim, Path(folder))
    print(describe(report))
    sys.exit(not report.fine)


def measure(count: int, dim: int, folder: Path, searches: int = SEARCHES) -> Report:
    """Fill, copy there and back, ask both."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((256, dim))
    rows = np.concatenate(
        [some(centres, min(BATCH, count - start), rng) for start in range(0, count, BATCH)]
    ).astype(np.float16)  # as stores keep them
    queries, model = some(centres, searches, rng), Model("s" * 64, "random", dim)
    here = Location(Directory(folder / "sqlite"))
    there = Location(InMilvus(str(folder / "milvus.db")))
    back = Location(Directory(folder / "back"))
    seconds: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = work()
        seconds[what] = time.perf_counter() - started
        return found

    timed("fill SQLite", lambda: fill(here.directory, model, rows))
    sent = timed("copy to Milvus Lite, checked", lambda: copy_index(here, there))
    returned = timed("copy back, checked", lambda: copy_index(there, back))
    stores = {}
    for name, location in (("SQLite", here), ("Milvus Lite", there)):
        with closing(location.address.open()) as store:
            store.use_model(model)
            stores[name] = ask(store, rows, queries)
    return Report(sent == returned, seconds, stores)


def fill(directory: Path, model: Model, rows: Any) -> None:
    with SqliteStore.open(directory, write=True) as store:
        store.use_model(model)
        for start in range(0, len(rows), BATCH):
            numbers = range(start, min(start + BATCH, len(rows)))
            vectors = rows[start : numbers.stop].astype(np.float32)
            store.upsert([image(number) for number in numbers], vectors)
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


def ask(store: Store, rows: Any, queries: FloatArray) -> dict[str, Answers]:
    """Search with every filter, and compare with all cosines. rows: (N, D) in order of ids."""
    ids = store.ids()
    assert len(ids) == len(rows)
    cosines = queries.astype(np.float64) @ rows.T.astype(np.float64)
    answers = {}
    for name, (where, means) in QUESTIONS.items():
        meant = np.flatnonzero(means(np.arange(len(rows))))
        same = np.array_equal(store.ids(where), ids[meant])
        store.nearest(queries[0], top=TOP, where=where)  # warm up
        first, spent, found = [], [], 0
        for query, row in zip(queries, cosines, strict=True):
            nearest = ids[meant[np.argsort(-row[meant], kind="stable")[:TOP]]]
            started = time.perf_counter()
            hits = store.nearest(query, top=TOP, where=where)
            spent.append(1e3 * (time.perf_counter() - started))
            first.append([hit.id for hit in hits])
            found += len(set(first[-1]) & set(nearest.tolist()))
        recall = found / (len(queries) * min(TOP, len(meant)))
        answers[name] = Answers(same, recall, first, float(np.median(spent)))
    return answers


def describe(report: Report) -> str:
    lines = [f"{what}: {seconds:.1f} s" for what, seconds in report.seconds.items()]
    lines.append(f"identical there and back: {report.identical}")
    for name, answers in report.stores.items():
        lines += [
            f"{name:11}  {question:20} {one.milliseconds:9.1f} ms  recall@10 {one.recall:.4f}  "
            f"filter right: {one.same_images}"
            for question, one in answers.items()
        ]
    return "\n".join([*lines, "fine" if report.fine else "NOT as it should be"])


if __name__ == "__main__":
    main()
