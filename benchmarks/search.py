"""How fast, how exactly, and in how much memory one query finds its nearest vectors.

    python benchmarks/search.py [--rows N ...] [--vectors FILE.npz] [--start-up] [--json]

The same queries go to every engine that is installed, one query at a time, engines in turns, so
that a busy machine disturbs all alike; each in a process of its own with the same few CPUs:

numpy         float32 matrix product and argpartition, what one writes in an afternoon
faiss-flat    exact; faiss-hnsw   graph (pip install faiss-cpu)
lancedb       exact, from disk (pip install lancedb)
usearch-flat  its own exact search on float16; usearch-hnsw   its graph, loaded
ours-exact    `SqliteStore` without a graph: mapped float16, seals checked, ids looked up
ours-graph    `SqliteStore` with a graph

Vectors are drawn around centres (see `clustered`) unless a file of `miniclip embed` is given; then
queries are held out of it. --start-up measures the command line, from the shell to its answer, on
an index of so many rows. It checks recall, no seals; tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import Bundle
from miniclip.arrays import FloatArray, IntArray, unit_rows

TOP = 10
BLOCK = 20_000


# The data


def clustered(path: Path, rows: int, dim: int, queries: int) -> FloatArray:
    """Write unit vectors (N, D) float32 around N / 100 centres; return queries of the same kind.

    The noise is as long as the centre: the cosine of two vectors of a centre is about 0.5.
    """
    rng = np.random.default_rng(rows)
    centres = unit_rows(rng.standard_normal((max(rows // 100, 1), dim), dtype=np.float32))

    def draw(count: int) -> FloatArray:
        noise = rng.standard_normal((count, dim), dtype=np.float32) / np.float32(np.sqrt(dim))
        return unit_rows(centres[rng.integers(len(centres), size=count)] + noise)

    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, BLOCK):
        out[start : start + BLOCK] = draw(min(BLOCK, rows - start))
    out.flush()
    return draw(queries)


def real(path: Path, vectors: Path, queries: int) -> FloatArray:
    """Write the vectors of a file of `miniclip embed` but for the queries, which are returned."""
    with np.load(vectors) as file:
        rows: FloatArray = file["embeddings"]
    order = np.random.default_rng(0).permutation(len(rows))
    np.save(path, rows[np.sort(order[queries:])])
    return rows[order[:queries]]


def truth(path: Path, queries: FloatArray) -> IntArray:
    """Return the rows (Q, TOP) of the largest float32 cosines."""
    rows = np.load(path, mmap_mode="r")
    best = np.full((len(queries), TOP), -np.inf, dtype=np.float32)
    where = np.zeros((len(queries), TOP), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        cosines = queries @ rows[start : start + BLOCK].T
        both = np.hstack([best, cosines])
        numbers = np.hstack(
            [where, np.tile(np.arange(start, start + cosines.shape[1]), (len(queries), 1))]
        )
        kept = np.argpartition(-both, TOP - 1, axis=1)[:, :TOP]
        best, where = np.take_along_axis(both, kept, 1), np.take_along_axis(numbers, kept, 1)
    return where


# Processes


def engine(options: argparse.Namespace, *arguments: str | Path) -> list[str]:
    """Return the command of a process for one engine."""
    script = str(Path(__file__).with_name("search_engine.py"))
    return [sys.executable, script, *map(str, arguments), "--cpus", str(options.cpus)]


def environment(cpus: int) -> dict[str, str]:
    """Return the variables that tell every library how many threads to use."""
    names = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS RAYON_NUM_THREADS"
    names += " LANCE_CPU_THREADS TOKIO_WORKER_THREADS"
    return {**os.environ, **dict.fromkeys(names.split(), str(cpus))}


class Server:
    """A process that has an engine open."""

    def __init__(self, name: str, place: Path, queries: Path, options: argparse.Namespace) -> None:
        self.seconds: list[list[float]] = []  # of each round, of each query
        self.found: list[list[int]] = []
        self._process = subprocess.Popen(
            engine(options, "serve", name, "--place", place, "--queries", queries),
            env=environment(options.cpus),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask_all(self) -> None:
        """Ask all queries once."""
        answer = self._ask("round")
        self.seconds.append(answer["seconds"])
        self.found = answer["found"]

    def close(self) -> float:
        """Return the resident growth in MB."""
        resident: float = self._ask("memory")["resident"]
        self._process.communicate()
        return resident

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        print(what, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


# Measuring


def build(name: str, rows: Path, place: Path, options: argparse.Namespace) -> float:
    """Build an engine, unless an earlier run has kept it; return how many seconds it took."""
    note = place.with_name(f"{name}.seconds")
    if not note.exists():
        command = engine(options, "build", name, "--place", place, "--rows", rows)
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment(options.cpus))
        note.write_text(str(time.perf_counter() - started))
    return float(note.read_text())


def measure(scratch: Path, count: int | None, options: argparse.Namespace) -> dict[str, Any]:
    """Draw the data and build the engines, unless that is kept; then ask in turns."""
    rows, queries = scratch / "rows.npy", scratch / "queries.npy"
    if not queries.exists():
        drawn = (
            clustered(rows, count, options.dim, options.queries)
            if count
            else real(rows, options.vectors, options.queries)
        )
        np.save(queries, drawn)
    right = truth(rows, np.load(queries))
    names = [name for name, missing in options.known.items() if not missing]
    built = {name: build(name, rows, scratch / name, options) for name in names}
    servers = {name: Server(name, scratch / name, queries, options) for name in names}
    for _ in range(options.rounds + 1):
        for server in servers.values():
            server.ask_all()
    table = {}
    for name, server in servers.items():
        medians = [statistics.median(one) for one in server.seconds[1:]]  # the first is to warm up
        of_numpy = [statistics.median(one) for one in servers[names[0]].seconds[1:]]
        ratios = [own / other for own, other in zip(medians, of_numpy, strict=True)]
        hits = [len(set(a) & set(b)) for a, b in zip(server.found, right.tolist(), strict=True)]
        table[name] = {
            "milliseconds": round(1000 * statistics.median(medians), 2),
            "fastest_milliseconds": round(1000 * min(medians), 2),
            f"over_{names[0]}": round(statistics.median(ratios), 3),
            f"recall@{TOP}": round(sum(hits) / (TOP * len(right)), 4),
            "resident_megabytes": server.close(),
            "build_seconds": round(built[name], 1),
        }
    shape = np.load(rows, mmap_mode="r").shape
    return {"rows": shape[0], "dim": shape[1], "engines": table}


def start_up(scratch: Path, photos: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time `miniclip search` as a shell sees it, on an index of so many photos."""
    folder, rows = scratch / "folder", scratch / "rows.npy"
    folder.mkdir()
    clustered(rows, photos, Bundle.resolve("default").manifest.embedding_dim, 1)
    build = engine(options, "build", "ours-exact", "--place", folder / ".miniclip", "--rows", rows)
    subprocess.run(build, check=True)
    command = [sys.executable, "-m", "miniclip", "search", "a dog on the beach", str(folder)]
    seconds = []
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        subprocess.run(
            command, check=True, env=environment(options.cpus), stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - started)
    return {"photos": photos, "seconds": round(statistics.median(seconds[1:]), 3)}


def main() -> None:
    """Run what the command line asks for, and print it."""
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    listed = subprocess.run(engine(options, "list"), check=True, capture_output=True)
    known = json.loads(listed.stdout)
    wanted = options.engines or list(known)
    options.known = {name: known[name] for name in known if name in wanted}
    report: dict[str, Any] = {"cpus": options.cpus, "runs": []}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        for count in [None] if options.vectors else options.rows:
            place = scratch / (f"{count}x{options.dim}" if count else options.vectors.stem)
            place.mkdir(parents=True, exist_ok=True)
            report["runs"].append(measure(place, count, options))
        if options.start_up:
            report["start_up"] = start_up(Path(temporary), options.start_up, options)
    report["left_out"] = {
        name: f"{missing} is not installed" for name, missing in options.known.items() if missing
    }
    print(json.dumps(report, indent=2) if options.json else describe(report))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--vectors", type=Path, help="an .npz of miniclip embed, instead")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="times to ask all queries")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--engines", nargs="*", help="default: all that are installed")
    parser.add_argument("--start-up", type=int, nargs="?", const=100_000, metavar="PHOTOS")
    parser.add_argument("--keep", type=Path, help="folder for the data, to be used again")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def describe(report: dict[str, Any]) -> str:
    """Write the report as lines for people."""
    lines = []
    for run in report["runs"]:
        lines.append(f"{run['rows']:,} x {run['dim']}, {report['cpus']} CPUs, warm, one at a time")
        columns = list(next(iter(run["engines"].values())))
        lines.append(" ".join([" " * 12, *(f"{column:>20}" for column in columns)]))
        for name, entry in run["engines"].items():
            lines.append(" ".join([f"{name:12}", *(f"{entry[column]:>20}" for column in columns)]))
    if "start_up" in report:
        found = report["start_up"]
        lines.append(f"miniclip search on {found['photos']:,} photos: {found['seconds']} s")
    lines += [f"left out: {name} ({why})" for name, why in report["left_out"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
