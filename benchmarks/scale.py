"""What an image costs when there are few and when there are many: embed, index, search.

    python -m benchmarks.scale [--images 1000 10000 100000] [--keep FILE] [--json FILE]

Embedding and indexing run over generated JPEGs of 32 x 32 pixels with `FakeEncoder`, so that what
the product itself does for an image is measured, and not the model or the decoder, whose cost for
an image cannot depend on how many there are. Every figure comes from a process of its own, after a
warm-up; few images are measured more often than many, before, between and after these, so that a
computer that becomes slower meanwhile does not look like growth. Searches run over random unit
vectors, in SQLite and (with miniclip[milvus]) in Milvus Lite. Needs about 500 bytes of disk for
each image, and 2 kB for each vector.

With --keep every figure is appended to a file as it comes, and a run that was stopped goes on.

Legs, in seconds of CPUs and of the clock to 1,000 images, and peak memory:

embed   `embed_cached`, as `miniclip embed` and `search` without an index do; vectors are cached
shards  `embed_shards`, as `miniclip embed -o FOLDER/` does
driver  the part of it that the first computer of a cluster does alone
index   `Index.sync` of a new index; again: the same, when nothing has changed; memory: of both
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.stores import image, some
from miniclip import find_images
from miniclip.bulk.batch import BATCH as BULK
from miniclip.bulk.batch import Batches, FarVectors, embed_here
from miniclip.bulk.shards import embed_shards
from miniclip.collection import Index
from miniclip.index.address import Directory, InMilvus
from miniclip.index.embed_cached import embed_cached
from miniclip.index.store import Model
from miniclip.index.vector_cache import VectorCache
from miniclip.testing import FakeEncoder

FOLDER = 1_000  # images
ROUNDS = {1_000: 5, 10_000: 3}  # of larger numbers one
SEARCHES = 20
BATCH = 1_000
Result = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dim", type=int, default=512, help="of the vectors that are searched")
    parser.add_argument("--legs", nargs="+", default=list(LEGS), choices=LEGS)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="go on with the figures in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--leg", nargs=3, help=argparse.SUPPRESS)  # name, images, scratch
    options = parser.parse_args()
    if any(count % FOLDER for count in options.images):
        parser.error(f"--images are multiples of {FOLDER:,}")
    if options.leg:
        name, count, scratch = options.leg
        print(json.dumps(LEGS[name](int(count), Path(scratch), options.dim)))
        return
    names = [name for name in options.legs if name != "milvus" or find_spec("pymilvus")]
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch) / "figures"
        report = measure(names, sorted(options.images), Path(scratch), keep, options.dim)
    print(describe(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def measure(
    names: list[str], counts: list[int], scratch: Path, keep: Path, dim: int
) -> dict[str, Any]:
    """Run what is not in the file `keep` yet: for each leg a list of medians, one to a count."""
    kept = [json.loads(line) for line in keep.read_text().splitlines()] if keep.exists() else []
    done = {tuple(about): found for about, found in kept}
    planned = [(name, count, turn, dim) for name in names for count, turn in turns(name, counts)]
    if not set(planned) <= set(done):
        write_photos(scratch / "photos", counts[-1])
    for about in planned:
        if about not in done:
            done[about] = in_child(about[0], about[1], scratch, dim)
            with keep.open("a") as stream:
                stream.write(json.dumps([about, done[about]]) + "\n")
        print(*about[:2], done[about], file=sys.stderr, flush=True)
    report: dict[str, Any] = {"images": counts, "dim": dim}
    for name in names:
        rounds = [[done[one] for one in planned if one[:2] == (name, count)] for count in counts]
        report[name] = [
            {key: statistics.median(row[key] for row in found) for key in found[0]}
            for found in rounds
        ]
    return report


def turns(name: str, counts: list[int]) -> list[tuple[int, int]]:
    """Return counts with the numbers of their rounds, spread evenly among each other."""
    rounds = {count: 1 if name in SEARCH else ROUNDS.get(count, 1) for count in counts}
    all_ = [(count, turn) for count in counts for turn in range(rounds[count])]
    return sorted(all_, key=lambda one: (one[1] + 0.5) / rounds[one[0]])


def in_child(name: str, count: int, scratch: Path, dim: int) -> Result:
    """Run a leg in a process and a folder of its own."""
    own = Path(tempfile.mkdtemp(dir=scratch))
    command = [sys.executable, "-m", "benchmarks.scale", "--dim", str(dim)]
    command += ["--leg", name, str(count), str(own)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shutil.rmtree(own)
    result: Result = json.loads(shown)
    return result


def write_photos(folder: Path, count: int) -> None:
    """Write different JPEGs, a thousand to a folder, as collections are."""
    draws = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // FOLDER:04}"
        if number % FOLDER == 0:
            place.mkdir(parents=True)
        pixels = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST)
        picture.save(place / f"{number:07}.jpg", quality=75)
    os.sync()  # else the disk is at work while the first legs run


# In a process of its own


def folders(own: Path, count: int) -> list[Path]:
    found = sorted((own.parent / "photos").iterdir())
    return found[: max(1, count // FOLDER)]


def few(own: Path) -> list[Path]:
    """Return images to warm up with."""
    return sorted(folders(own, 1)[0].iterdir())[:64]


def embed(count: int, own: Path, _dim: int) -> Result:
    encoder = FakeEncoder()
    paths = list(find_images(folders(own, count)))
    with VectorCache.open(own / "warm") as cache:
        embed_cached(encoder, few(own), cache)
    with VectorCache.open(own / "cache") as cache:
        return cost(count, lambda: embed_cached(encoder, paths, cache))


def shards(count: int, own: Path, _dim: int) -> Result:
    encoder = FakeEncoder()
    places = [str(folder) for folder in folders(own, count)]
    warm = [str(path) for path in few(own)]
    embed_shards(encoder, warm, str(own / "warm"), embed_here(encoder))
    return cost(count, lambda: embed_shards(encoder, places, str(own / "out"), embed_here(encoder)))


def driver(count: int, own: Path, dim: int) -> Result:
    """Run the first computer's part of `embed -o FOLDER/ --engine ray`: vectors come ready made."""
    encoder = replace(FakeEncoder(), embedding_dim=dim)
    rows = np.zeros((BULK, dim), dtype=np.float32)

    def ready(batches: Batches) -> Iterator[FarVectors]:
        for images in batches:
            digests = tuple(hashlib.sha256(one.name.encode()).digest() for one in images)
            yield FarVectors(tuple(range(len(images))), digests, rows[: len(images)], {})

    places = [str(folder) for folder in folders(own, count)]
    embed_shards(encoder, [str(path) for path in few(own)], str(own / "warm"), ready)
    return cost(count, lambda: embed_shards(encoder, places, str(own / "out"), ready))


def index(count: int, own: Path, _dim: int) -> Result:
    encoder = FakeEncoder()
    with Index.open(few(own), encoder, directory=own / "warm") as collection:
        collection.sync()
    with Index.open(folders(own, count), encoder, directory=own / "index") as collection:
        first = cost(count, collection.sync)
        again = cost(count, collection.sync)
    return first | {"again": again["cpu"], "megabytes": again["megabytes"]}


def sqlite(count: int, own: Path, dim: int) -> Result:
    return search(count, Directory(own / "index"), dim)


def milvus(count: int, own: Path, dim: int) -> Result:
    return search(count, InMilvus(str(own / "index.db")), dim)


def search(count: int, address: Directory | InMilvus, dim: int) -> Result:
    """Median milliseconds to the first ten of `count` vectors, and what filling took."""
    model, rng = Model("s" * 64, "random", dim), np.random.default_rng(0)
    centres = rng.standard_normal((256, dim))
    started = time.perf_counter()
    with closing(address.open(write=True)) as store:
        store.use_model(model)
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            store.upsert([image(number) for number in numbers], some(centres, len(numbers), rng))
        store.optimise()
    filled = time.perf_counter() - started
    with closing(address.open()) as store:
        store.use_model(model)
        spent = []
        for query in some(centres, SEARCHES + 1, rng):
            started = time.perf_counter()
            store.nearest(query, top=10)
            spent.append(time.perf_counter() - started)
    return {
        "milliseconds": 1e3 * statistics.median(spent[1:]),
        "seconds": 1e3 * filled / count,
        "megabytes": peak_megabytes(),
    }


SEARCH = {"sqlite": sqlite, "milvus": milvus}
LEGS: dict[str, Callable[[int, Path, int], Result]] = {
    "embed": embed,
    "shards": shards,
    "driver": driver,
    "index": index,
    **SEARCH,
}


def cost(count: int, work: Callable[[], object]) -> Result:
    """Seconds to 1,000 images, of all CPUs and of the clock, and the peak memory of the process."""
    spent, started = time.process_time(), time.perf_counter()
    work()
    return {
        "cpu": 1e3 * (time.process_time() - spent) / count,
        "seconds": 1e3 * (time.perf_counter() - started) / count,
        "megabytes": peak_megabytes(),
    }


def peak_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def describe(report: dict[str, Any]) -> str:
    """Write tables for docs/scale.md."""
    counts = report["images"]
    lines = ["| " + " | ".join(["", *(f"{count:,}" for count in counts), "largest to smallest"])]
    lines = [f"{lines[0]} |", "|---" * (len(counts) + 2) + "|"]
    for name, key, what in (
        ("embed", "cpu", "embed, CPU s to 1,000 images"),
        ("shards", "cpu", "embed into shards, CPU s to 1,000"),
        ("driver", "cpu", "of it listing and writing, CPU s to 1,000"),
        ("index", "cpu", "index, CPU s to 1,000"),
        ("index", "again", "index again, CPU s to 1,000"),
        ("embed", "seconds", "embed, s to 1,000 images"),
        ("shards", "seconds", "embed into shards, s to 1,000"),
        ("index", "seconds", "index, s to 1,000"),
        ("embed", "megabytes", "embed, peak MB"),
        ("shards", "megabytes", "embed into shards, peak MB"),
        ("index", "megabytes", "index, peak MB"),
        ("sqlite", "milliseconds", "search in SQLite, ms"),
        ("milvus", "milliseconds", "search in Milvus Lite, ms"),
    ):
        if name in report:
            cells = [row[key] for row in report[name]]
            shown = [f"{cell:.3g}" for cell in cells]
            lines.append(f"| {' | '.join([what, *shown, f'{cells[-1] / cells[0]:.2f}'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
