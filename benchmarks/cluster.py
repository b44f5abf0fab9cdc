"""A Ray cluster of three nodes on this computer against the local path: same vectors, at what cost.

    python benchmarks/cluster.py --images DIR [--count 7000] [--threads 2] [--bundle NAME] [--json]

The head computes nothing; two more nodes, each with a raylet of its own, share the threads that
the local path has. Three legs over the same photos, rounds in turns:

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    parser.add_argument("--rounds", type=int, default=3)
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
            collect(cluster.stream(encoder, sources[: 64 * 2]), time.perf_counter())  # warm up
            local, warm = [], []
            for _ in range(options.rounds):
                started = time.perf_counter()
                local.append(collect(embed_stream(encoder, sources, threads=2 * each), started))
                started = time.perf_counter()
                warm.append(collect(cluster.stream(encoder, sources), started))
            started = time.perf_counter()
            deaths = collect(with_deaths(cluster, encoder, sources, nodes, add), started)
    finally:
        nodes.shutdown()
    return judge(bundle, local, warm, deaths, 2 * each)


def with_deaths(
    cluster: RayCluster,
    encoder: BundleEncoder,
    sources: Sequence[ImageSource],
    nodes: Cluster,
    add: dict[str, Any],
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


def collect(stream: Iterator[Embedded | Skipped], started: float) -> Leg:
    names: list[str] = []
    skipped: list[str] = []
    vectors = []
    for outcome in stream:
        if isinstance(outcome, Skipped):
            skipped.append(outcome.name)
        else:
            names += [source.name for source in outcome.sources]
            vectors.append(outcome.embeddings)
    return Leg(tuple(names), tuple(skipped), np.concatenate(vectors), time.perf_counter() - started)


def judge(
    bundle: Bundle, local: list[Leg], warm: list[Leg], deaths: Leg, threads: int
) -> dict[str, Any]:
    first = local[0]
    same = {name: against(first, leg) for name, leg in (("cluster", warm[0]), ("deaths", deaths))}
    ratios = [here.seconds / there.seconds for here, there in zip(local, warm, strict=True)]
    efficiency = statistics.median(ratios)
    count = len(first.names) + len(first.skipped)
    rates = {
        name: round(count / statistics.median(leg.seconds for leg in legs), 1)
        for name, legs in (("local", local), ("cluster", warm), ("deaths", [deaths]))
    }
    return {
        "bundle": bundle.name,
        "photos": count,
        "skipped": len(first.skipped),
        "threads": threads,
        "images_per_second": rates,
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
        f"  efficiency {report['efficiency']:.1%}, rounds {report['efficiencies']}",
    ]
    for leg, same in report["against_local"].items():
        lines.append(
            f"  {leg}: each photo once {same['each_once']}, bit for bit {same['bit_for_bit']}, "
            f"least cosine {same['least_cosine']}"
        )
    return "\n".join([*lines, "fine" if report["fine"] else "NOT as it should be"])


if __name__ == "__main__":
    main()
