"""`Tower`: a graph of a bundle on all the processors that it may use, for one batch or for many.

How a graph is loaded and called is in `tower_graph` and the runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Protocol

from miniclip.arrays import FloatArray
from miniclip.tower_graph import Feeds, TowerGraph


class MakeGraph(Protocol):
    """What makes a graph from all but these two arguments of `TowerGraph`."""

    def __call__(self, *, threads: int, lanes: int) -> TowerGraph:
        """Arguments as for `TowerGraph`."""


class Tower:
    """One graph of a bundle; threads may share it. Errors as for `TowerGraph`.

    A single batch has all the threads. Many batches have one each, side by side: threads that
    share no work never wait for each other, and on two processors that alone is up to 1.6 times as
    fast. Either form is loaded when first needed; once the second is there, it serves both, so that
    the weights of a process that embeds folders are not in its memory twice.
    """

    def __init__(self, make: MakeGraph, threads: int, *, wide: bool = True) -> None:
        """threads: how many processors all runs together may keep busy; wide: a single run, too."""
        self._threads = threads
        self._lanes = make(threads=1, lanes=threads)
        self._wide = make(threads=threads, lanes=1) if wide else self._lanes
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def run(self, batches: Sequence[Feeds]) -> list[list[FloatArray]]:
        """Return the outputs of each batch, in order."""
        if len(batches) < 2 and self._pool is None:
            return [self._wide.run(batch) for batch in batches]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="miniclip-model")
        return list(self._pool.map(self._lanes.run, batches))
