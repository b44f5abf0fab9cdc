"""A Ray cluster of three nodes on this computer against the local path: same vectors, at what cost.

    python benchmarks/cluster.py --images DIR [--count 7000] [--threads 2] [--keep FOLDER] [--json]

The head computes nothing; two more nodes, each with a raylet of its own, share the threads that
the local path has. First both embed a tenth of the photos in turns, for their rates; then three
legs over all of them, which --keep keeps, so that a run that was stopped goes on:

local    `embed_stream` with all threads
cluster  the same photos on the two nodes, warm
deaths   the same, but the raylet of a node is killed (SIGKILL) in the middle and another node joins

It checks that every photo comes once and in order, that the cosines with the local vectors are at
least 0.99999, and says whether they are bit for bit the same. Exit code 1 if anything is amiss, or
the cluster reaches less than 85 % of the local rate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from ray.cluster_utils import Cluster

from miniclip import ImageSource, embed_stream, find_images
from miniclip.arrays import FloatArray
from miniclip.bundle import Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.cluster import RayCluster
from miniclip.cpus import usable_cpus
from miniclip.demo import copy_photos
from miniclip.embed import Embedded, Skipped
from miniclip.runtimes import open_encoder

LEAST_COSINE, LEAST_EFFICIENCY = 0.99999, 0.85
STORE_BYTES = 200_000_000


@dataclass(frozen=True)
class Leg:
    """What a leg gave: names in order of arrival, vectors (N, D), and its seconds."""

    names: tuple[str, ...]
    skipped: tuple[str, ...]
    vectors: FloatArray
    seconds: float

    def write(self, path: Path) -> None:
        """Keep it."""
        fresh = path.with_name(f"new {path.name}")
        with fresh.open("wb") as stream:
            np.savez(
                stream,
                names=np.array(self.names, dtype=np.str_),
                skipped=np.array(self.skipped, dtype=np.str_),
                vectors=self.vectors,
                seconds=self.seconds,
            )
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> Leg:
        """Read what `write` kept."""
        with np.load(path) as kept:
            names, skipped = (tuple(map(str, kept[key])) for key in ("names", "skipped"))
            return cls(names, skipped, kept["vectors"], float(kept["seconds"]))


def main() -> None:
    options = parse()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    bundle = Bundle.resolve(options.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        sources = photos(options.images or some_photos(Path(scratch)), options.count)
        report = measure(bundle, sources, options)
    print(json.dumps(report, indent=2) if options.json else describe(report))
    sys.exit(not report["fine"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder; default: the demo's photos")
    parser.add_argument("--count", type=int, default=7000)
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="an even number")
    parser.add_argument("--rounds", type=int, default=3, help="over a tenth of the photos")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="go on with the legs in it")
    parser.add_argument("--bundle", help="name or directory; default: the shipped one")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def some_photos(folder: Path) -> Path:
    copy_photos(folder)
    return folder


def photos(folder: Path, count: int) -> list[ImageSource]:
    """Take so many photos, from the start again when there are fewer, each under its own name."""
    found = list(islice(find_images([folder]), count))
    if not found:
        sys.exit(f"there is no image below {folder}; give a folder of photos with --images")
    return [
        ImageSource(f"{number}: {path}", path=path)
        for number, path in enumerate(islice(cycle(found), count))
    ]


def measure(
    bundle: Bundle, sources: Sequence[ImageSource], options: argparse.Namespace
) -> dict[str, Any]:
    each = max(1, options.threads // 2)
    encoder = open_encoder(bundle, threads=2 * each)
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    add = dict[str, Any](num_cpus=each, object_store_memory=STORE_BYTES)
    try:
        nodes.add_node(**add)
        nodes.add_node(**add)
        with RayCluster(bundle, nodes.address, threads=each) as cluster:
            local = partial(embed_stream, encoder, threads=2 * each)
            far = partial(cluster.stream, encoder)
            collect(far, sources[: 64 * 2])  # warm up
            some = sources[: max(1, len(sources) // 10)]
            turns = [(collect(local, some), collect(far, some)) for _ in range(options.rounds)]
            legs = {
                name: kept(options.keep, f"{name} {len(sources)}", partial(collect, way, sources))
                for name, way in (
                    ("local", local),
                    ("cluster", far),
                    ("deaths", partial(with_deaths, cluster, encoder, nodes, add)),
                )
            }
    finally:
        nodes.shutdown()
    return judge(bundle, turns, legs, 2 * each)


def kept(folder: Path | None, name: str, work: Callable[[], Leg]) -> Leg:
    """Do the work, or read what came of it before."""
    if folder is None:
        return work()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    if not path.exists():
        work().write(path)
    return Leg.read(path)


def with_deaths(
    cluster: RayCluster,
    encoder: BundleEncoder,
    nodes: Cluster,
    add: dict[str, Any],
    sources: Sequence[ImageSource],
) -> Iterator[Embedded | Skipped]:
    """Kill the raylet of a node after a third of the photos; another node joins after a half."""
    done, killed, joined = 0, False, False
    for outcome in cluster.stream(encoder, sources):
        done += len(outcome.sources) if isinstance(outcome, Embedded) else 1
        yield outcome
        if not killed and 3 * done >= len(sources):
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            killed = True
        if not joined and 2 * done >= len(sources):
            nodes.add_node(wait=False, **add)
            joined = True


def collect(
    way: Callable[[Sequence[ImageSource]], Iterator[Embedded | Skipped]],
    sources: Sequence[ImageSource],
) -> Leg:
    started = time.perf_counter()
    names: list[str] = []
    skipped: list[str] = []
    vectors = []
    for outcome in way(sources):
        if isinstance(outcome, Skipped):
            skipped.append(outcome.name)
        else:
            names += [source.name for source in outcome.sources]
            vectors.append(outcome.embeddings)
    seconds = time.perf_counter() - started
    print(f"{len(sources)} photos: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Leg(tuple(names), tuple(skipped), np.concatenate(vectors), seconds)


def judge(
    bundle: Bundle, turns: list[tuple[Leg, Leg]], legs: dict[str, Leg], threads: int
) -> dict[str, Any]:
    local = legs["local"]
    same = {name: against(local, leg) for name, leg in legs.items() if name != "local"}
    pairs = [*turns, (local, legs["cluster"])]
    ratios = [here.seconds / there.seconds for here, there in pairs]
    efficiency = statistics.median(ratios)
    count = len(local.names) + len(local.skipped)
    return {
        "bundle": bundle.name,
        "photos": count,
        "skipped": len(local.skipped),
        "threads": threads,
        "images_per_second": {name: round(count / leg.seconds, 1) for name, leg in legs.items()},
        "efficiency": round(efficiency, 3),
        "efficiencies": [round(ratio, 3) for ratio in ratios],
        "against_local": same,
        "fine": efficiency >= LEAST_EFFICIENCY
        and all(one["each_once"] and one["least_cosine"] >= LEAST_COSINE for one in same.values()),
    }


def against(local: Leg, other: Leg) -> dict[str, Any]:
    once = other.names == local.names and sorted(other.skipped) == sorted(local.skipped)
    if not once:
        return {"each_once": False, "bit_for_bit": False, "least_cosine": 0.0}
    cosines = np.einsum("nd,nd->n", local.vectors.astype(float), other.vectors.astype(float))
    return {
        "each_once": True,
        "bit_for_bit": bool(np.array_equal(local.vectors, other.vectors)),
        "least_cosine": round(float(cosines.min()), 8),
    }


def describe(report: dict[str, Any]) -> str:
    rates = ", ".join(f"{leg} {rate}" for leg, rate in report["images_per_second"].items())
    lines = [
        f"{report['bundle']}: {report['photos']} photos, {report['threads']} threads in all",
        f"  images/s: {rates}",
        f"  efficiency {report['efficiency']:.1%}; turns, then all: {report['efficiencies']}",
    ]
    for leg, same in report["against_local"].items():
        lines.append(
            f"  {leg}: each photo once {same['each_once']}, bit for bit {same['bit_for_bit']}, "
            f"least cosine {same['least_cosine']}"
        )
    return "\n".join([*lines, "fine" if report["fine"] else "NOT as it should be"])


if __name__ == "__main__":
    main()
