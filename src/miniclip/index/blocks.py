"""Work on many rows block by block, in a few threads; for kernels that let others run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.cpus import usable_cpus

BLOCK = 8192  # rows a thread takes at a time: 8 MiB at D = 512, few enough calls, no long tail
_LANES = 64  # numbers of which one maximum is kept


def in_blocks(count: int, work: Callable[[slice], None]) -> None:
    """Call `work` with slices that cover 0..count, each once, in the order in which they come."""
    starts = iter(range(0, count, BLOCK))

    def drain() -> None:
        for start in starts:  # shared: each thread takes the next block that is left
            work(slice(start, min(start + BLOCK, count)))

    more = min(usable_cpus(), count // BLOCK) - 1
    helpers = [_pool(os.getpid()).submit(drain) for _ in range(more)]
    drain()
    for helper in helpers:
        if not helper.cancel():  # one that had no time to begin has nothing left to do
            helper.result()


def reached_by(numbers: FloatArray, count: int) -> float:
    """Return a number that at least `count` numbers reach, and few others; -inf if there are fewer.

    Cheaper than a partition, which finds the exact one.
    """
    lanes = len(numbers) // _LANES
    best = numbers[: lanes * _LANES].reshape(lanes, _LANES).max(axis=1) if lanes else numbers
    if len(best) < count:
        best = numbers
    return float(np.partition(best, -count)[-count]) if len(best) >= count else -np.inf


@lru_cache(maxsize=1)
def _pool(_process: int) -> ThreadPoolExecutor:
    """Threads of this process (a fork has none of its parent's)."""
    return ThreadPoolExecutor(usable_cpus(), thread_name_prefix="miniclip-search")
