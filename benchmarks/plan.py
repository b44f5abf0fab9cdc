"""What a million images, and a thousand million, need: disk, memory, computers, hours, money.

    python -m benchmarks.plan [--images 1e6 1e7 1e8 1e9] [--nodes 0] [--rate 9.0] [--json] ...

Every input is an option. The defaults of the first group were measured by the benchmarks named in
their help, on two cores with AVX-512; those of the second are assumptions about somebody's cluster
and prices: put in your own. The hours come from a simulation of the cluster, whose computers die
and come back; a batch in hand is lost with its computer.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

GB = 1e9
HOUR = 3600.0
BATCH, AHEAD = 32, 3  # of `bulk.batch` and `cluster`


def _measured(value: float, by: str) -> Any:
    return field(default=value, metadata={"help": by})


_assumed = _measured


@dataclass(frozen=True)
class Inputs:
    """What a plan follows from; the help of each option is the metadata of its field."""

    rate: float = _measured(11.0, "images/s of a core (cluster.py, its local leg: 22.0 on two)")
    driver: float = _measured(10e3, "images/s that one driver lists and writes (scale.py, CPU)")
    dim: float = _measured(512, "numbers of a vector: the default model")
    row: float = _measured(345, "bytes of SQLite beside a vector (the rows of stores.py)")
    exact: float = _measured(28.5, "ms of an exact search in a million (benchmarks/search.py)")
    content: float = _measured(42, "bytes of the driver's disk for a content (a table in SQLite)")
    efficiency: float = _measured(0.96, "of the cores (cluster.py)")

    image: float = _assumed(100e3, "assumed: bytes of an image file")
    cores: float = _assumed(16, "assumed: cores of a node")
    node_life: float = _assumed(500, "assumed: hours until a node dies, on average")
    node_back: float = _assumed(0.2, "assumed: hours until another takes its place")
    query_memory: float = _assumed(64, "assumed: GB of a Milvus query node")
    query_share: float = _assumed(0.7, "assumed: share of it that holds vectors and graphs")
    inserts: float = _assumed(10e3, "assumed: vectors/s that a Milvus shard takes")
    core_price: float = _assumed(0.04, "assumed: $ for an hour of a core with 1 GB")
    memory_price: float = _assumed(0.005, "assumed: $ for an hour of a GB of memory")
    disk_price: float = _assumed(0.023, "assumed: $ for a month of a GB of object storage")


@dataclass(frozen=True)
class Plan:
    """What so many images need. Sizes in GB, hours of wall time, prices in $."""

    images: float
    originals_gb: float
    vectors_gb: float
    index_gb: float
    laptop_hours: float
    exact_ms: float
    nodes: int
    hours: float
    deaths: float
    lost_images: float
    embed_price: float
    driver_gb: float
    milvus_gb: float
    query_nodes: int
    shards: int
    milvus_price_month: float
    storage_price_month: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=float, nargs="+", default=[1e6, 1e7, 1e8, 1e9])
    parser.add_argument("--nodes", type=int, default=0, help="0: as many as finish in a week")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    for one in fields(Inputs):
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=float,
            default=one.default,
            help=f"{one.metadata['help']}; %(default)s",
        )
    options = vars(parser.parse_args())
    counts, nodes, as_json = (options.pop(name) for name in ("images", "nodes", "json"))
    inputs = Inputs(**options)
    plans = [plan(count, nodes, inputs) for count in counts]
    if as_json:
        print(json.dumps({"inputs": asdict(inputs), "plans": [asdict(one) for one in plans]}))
    else:
        print(table(plans))


def plan(images: float, nodes: int, inputs: Inputs) -> Plan:
    of_node = inputs.rate * inputs.cores * inputs.efficiency
    nodes = nodes or max(1, math.ceil(images / of_node / (7 * 24 * HOUR)))
    hours, deaths, lost = simulate(images, nodes, of_node, inputs)
    # float32 and the links of HNSW: 2 M on the lowest level and as good as nothing above, M = 32.
    milvus = images * (4 * inputs.dim + 2 * 32 * 4) / GB
    query_nodes = math.ceil(milvus / (inputs.query_memory * inputs.query_share))
    month = 30 * 24
    vectors = images * (4 * inputs.dim + 32 + 60) / GB
    return Plan(
        images=images,
        originals_gb=images * inputs.image / GB,
        vectors_gb=vectors,
        index_gb=images * (2 * inputs.dim + inputs.row) / GB,
        laptop_hours=images / (8 * inputs.rate) / HOUR,
        exact_ms=inputs.exact * images / 1e6 * inputs.dim / 512,
        nodes=nodes,
        hours=hours,
        deaths=deaths,
        lost_images=lost,
        embed_price=nodes * inputs.cores * hours * inputs.core_price,
        driver_gb=images * inputs.content / GB,
        milvus_gb=milvus,
        query_nodes=query_nodes,
        shards=max(1, math.ceil(min(nodes * of_node, inputs.driver) / inputs.inserts)),
        milvus_price_month=query_nodes * inputs.query_memory * inputs.memory_price * month,
        storage_price_month=(vectors + milvus) * inputs.disk_price,
    )


def simulate(
    images: float, nodes: int, of_node: float, inputs: Inputs, *, seed: int = 0
) -> tuple[float, float, float]:
    """Run the cluster from event to event; return hours, deaths, and images done again.

    Between two events as many nodes as live work at their rate, at most what one driver takes. A
    death loses what its node had in hand.
    """
    draws = np.random.default_rng(seed)
    events = [(draws.exponential(inputs.node_life), "dies") for _ in range(nodes)]
    heapq.heapify(events)
    living, now, done, deaths, lost = nodes, 0.0, 0.0, 0, 0.0
    in_hand = AHEAD * BATCH * inputs.cores
    while True:
        rate = min(living * of_node, inputs.driver) * HOUR
        at, what = events[0]
        if rate and now + (images - done) / rate <= at:
            return now + (images - done) / rate, deaths, lost
        done += rate * (at - now)
        now = at
        if what == "dies":
            living, deaths = living - 1, deaths + 1
            again = min(in_hand, done)
            done, lost = done - again, lost + again
            heapq.heapreplace(events, (now + inputs.node_back, "joins"))
        else:
            living += 1
            heapq.heapreplace(events, (now + draws.exponential(inputs.node_life), "dies"))


def table(plans: list[Plan]) -> str:
    """Write the table of docs/scale.md."""
    rows: list[tuple[str, str, str]] = [
        ("photos themselves, GB", "originals_gb", ",.0f"),
        ("vectors as Parquet, GB", "vectors_gb", ",.1f"),
        ("index on disk (SQLite), GB", "index_gb", ",.1f"),
        ("hours on a laptop of 8 cores", "laptop_hours", ",.1f"),
        ("exact search on two cores, ms", "exact_ms", ",.0f"),
        ("Ray nodes of 16 cores, to be done in a week", "nodes", ","),
        ("hours on them", "hours", ",.1f"),
        ("nodes that die meanwhile", "deaths", ",.0f"),
        ("images done again for it", "lost_images", ",.0f"),
        ("price of embedding, $", "embed_price", ",.0f"),
        ("temporary disk of the driver, GB", "driver_gb", ",.1f"),
        ("memory of Milvus, GB", "milvus_gb", ",.0f"),
        ("its query nodes of 64 GB", "query_nodes", ","),
        ("its shards", "shards", ","),
        ("price of that memory a month, $", "milvus_price_month", ",.0f"),
        ("price of vectors in object storage a month, $", "storage_price_month", ",.0f"),
    ]
    lines = ["| | " + " | ".join(f"{one.images:,.0f}" for one in plans) + " |"]
    lines.append("|---" * (len(plans) + 1) + "|")
    for title, name, form in rows:
        cells = [format(getattr(one, name), form) for one in plans]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
