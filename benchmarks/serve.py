"""What a server bears: many clients at once that search with words and embed images.

    python benchmarks/serve.py [PHOTOS] [--clients 64] [--seconds 60] [--joined] [--json]

A server of its own is started twice over the same index, with batching and without. Before the
load, text searches one at a time give the idle median. Then half of the clients search with
sentences that nobody asked before, the other half embed one photo after another; whoever is told to
come back later does. It prints requests by status, percentiles of answered text searches, images a
second, and the resident memory of the server with all its processes, after a tenth of the time and
at the end. PHOTOS: a folder; default: the demo photos. --joined: only the server that batches, as
for memory over ten minutes (--seconds 600). Last, what the model alone can give: images a second in
batches and one by one, which bounds what joining can gain. It judges nothing: docs/serve.md does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import httpx
import numpy as np

from miniclip import load_encoder
from miniclip.client import Client
from miniclip.demo import copy_photos
from miniclip.index.scan import find_images
from miniclip.serve.settings import Settings

WORDS = ("red", "old", "small", "bright", "dog", "car", "tree", "house", "sea", "snow", "child")
IDLE = 40
UPLOADS = 200  # different photos
ALONE = 192  # images through the model without a server


@dataclass
class Load:
    """What was measured of one server."""

    batching: bool
    idle_seconds: float
    statuses: Counter[str] = field(default_factory=Counter)
    text_seconds: list[float] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    early_bytes: int = 0
    late_bytes: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return what --json prints."""
        ordered = self.text_seconds or [0.0, 0.0]
        cuts = quantiles(ordered, n=100) if len(ordered) > 1 else ordered * 99
        return {
            "batching": self.batching,
            "idle_seconds": self.idle_seconds,
            "statuses": dict(self.statuses),
            "images": self.images,
            "seconds": self.seconds,
            "early_bytes": self.early_bytes,
            "late_bytes": self.late_bytes,
            "texts": len(self.text_seconds),
            "text_median_seconds": median(ordered),
            "text_p99_seconds": cuts[98],
            "p99_to_idle": cuts[98] / self.idle_seconds,
            "images_per_second": self.images / self.seconds,
            "memory_growth": self.late_bytes / self.early_bytes - 1,
        }


@contextmanager
def served(photos: Path, *words: str) -> Iterator[tuple[str, int]]:
    """Run a server; yield where it answers and the number of its process."""
    command = [sys.executable, "-m", "miniclip", "serve", "--index", str(photos), "--port", "0"]
    with subprocess.Popen(
        [*command, "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process.pid
        finally:
            process.terminate()


def resident(pid: int) -> int:
    """Return bytes of memory that a process and its children hold (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (pid, *children):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def sentences(seed: int) -> Iterator[str]:
    """Yield sentences, no two of them the same."""
    draw = random.Random(seed)
    for number in itertools.count():
        yield f"a {' '.join(draw.sample(WORDS, 5))} {seed} {number}"


async def search(http: httpx.AsyncClient, load: Load, seed: int, end: float) -> None:
    """Search with words, one sentence after another."""
    for sentence in sentences(seed):
        if time.monotonic() >= end:
            return
        begun = time.perf_counter()
        if await asked(http, load, "/v1/search", data={"text": sentence}):
            load.text_seconds.append(time.perf_counter() - begun)


async def embed(
    http: httpx.AsyncClient, load: Load, photos: list[bytes], seed: int, end: float
) -> None:
    """Embed photos, one after another."""
    draw = random.Random(seed)
    while time.monotonic() < end:
        if await asked(http, load, "/v1/embed", files={"image": draw.choice(photos)}):
            load.images += 1


async def asked(http: httpx.AsyncClient, load: Load, path: str, **body: object) -> bool:
    """Ask once; count the status; wait as long as the server says. Return whether it answered."""
    try:
        answer = await http.post(path, **body)  # type: ignore[arg-type]
    except httpx.HTTPError as error:
        load.statuses[type(error).__name__] += 1
        return False
    load.statuses[str(answer.status_code)] += 1
    if answer.status_code == 429:
        await asyncio.sleep(float(answer.headers["retry-after"]) * random.uniform(0.5, 1.5))
    return answer.status_code == 200


async def under_load(
    url: str, pid: int, photos: list[bytes], load: Load, *, clients: int, seconds: float
) -> None:
    """Let all clients ask at once."""
    begun = time.monotonic()
    end = begun + seconds
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as http:
        asking = [
            asyncio.create_task(
                search(http, load, number, end)
                if number % 2
                else embed(http, load, photos, number, end)
            )
            for number in range(clients)
        ]
        await asyncio.sleep(seconds / 10)
        load.early_bytes = resident(pid)
        await asyncio.gather(*asking)
        load.late_bytes = resident(pid)
    load.seconds = time.monotonic() - begun


def measure(photos: Path, *, batching: bool, clients: int, seconds: float) -> Load:
    """Measure one server."""
    paths = list(itertools.islice(find_images([photos]), UPLOADS))
    with served(photos, "--set", f"batching={str(batching).lower()}") as (url, pid):
        with Client(url) as client:
            client.embed(paths[:4])
            idle = []
            for sentence in itertools.islice(sentences(-1), IDLE):
                begun = time.perf_counter()
                client.search(sentence)
                idle.append(time.perf_counter() - begun)
        load = Load(batching, median(idle))
        uploads = [path.read_bytes() for path in paths]
        asyncio.run(under_load(url, pid, uploads, load, clients=clients, seconds=seconds))
    return load


def model_alone() -> dict[str, float]:
    """Return images a second of the model, without any server: one by one, and in batches."""
    encoder = load_encoder()
    pixels = np.zeros((Settings().max_batch, *encoder.image_spec.shape), dtype=np.float32)
    found = {}
    for name, batch in (("one_by_one", pixels[:1]), ("joined", pixels)):
        encoder.encode_pixels(batch)
        begun = time.perf_counter()
        for _ in range(ALONE // len(batch)):
            encoder.encode_pixels(batch)
        found[name] = ALONE / (time.perf_counter() - begun)
    return found


def main() -> None:
    """Measure with batching and without."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--joined", action="store_true", help="only the server that batches")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        photos = chosen.photos
        if photos is None:
            photos = Path(place) / "photos"
            copy_photos(photos)
        subprocess.run(
            [sys.executable, "-m", "miniclip", "index", str(photos)], check=True, stdout=sys.stderr
        )
        loads = [
            measure(
                photos, batching=batching, clients=chosen.clients, seconds=chosen.seconds
            ).to_dict()
            for batching in ((True,) if chosen.joined else (True, False))
        ]
    alone = model_alone()
    if chosen.json:
        print(json.dumps({"loads": loads, "model_images_per_second": alone}))
        return
    shown: list[dict[str, object]] = [*loads, {f"model, {name}": alone[name] for name in alone}]
    for load in shown:
        print(*(f"{name:22} {value}" for name, value in load.items()), "", sep="\n")


if __name__ == "__main__":
    main()
