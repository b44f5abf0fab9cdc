"""One run of a model for the images or texts of several requests; it knows neither.

A batch is what waits when the model becomes free: nobody waits for company, and the more people ask
at once, the larger the batches. Callers take turns, item by item, so that one who brings a hundred
does not keep the others waiting.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Generic, TypeVar

from miniclip.serve.failures import BusyError, SlowError

T = TypeVar("T")
R = TypeVar("R")

_LONGEST_WAIT = 60  # seconds that a client is told to stay away at most
_POLITE = 5  # steps of niceness


@dataclass
class _Job(Generic[T, R]):
    items: Sequence[T]
    future: Future[list[R]] = field(default_factory=Future)
    taken: int = 0
    found: dict[int, R] = field(default_factory=dict)


class Batcher(Generic[T, R]):
    """A thread that runs a function on batches of items; any thread may submit.

    run: from at most `most` items to as many results. queue: items that may wait. polite: the
    thread, and those that it starts, give way to others (on Linux). watch: told the size of each
    batch.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        *,
        most: int,
        queue: int | None,
        name: str,
        polite: bool = False,
        watch: Callable[[int], Any] = lambda _size: None,
    ) -> None:
        self._run, self._most, self._queue, self._watch = run, most, queue, watch
        self._jobs: deque[_Job[T, R]] = deque()
        self._waiting = 0
        self._seconds = 0.0  # for one item, lately
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._work, args=(polite,), name=f"miniclip-{name}", daemon=True
        )
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self._waiting

    def submit(self, items: Sequence[T]) -> Future[list[R]]:
        """Return what will be the results, in order, or the error of the run.

        BusyError when the queue is full; a queue that is empty takes any number.
        """
        job: _Job[T, R] = _Job(items)
        if not items:
            job.future.set_result([])
            return job.future
        with self._changed:
            if self._closed:
                raise SlowError("the server is stopping")
            full = self._queue is not None and self._waiting + len(items) > self._queue
            if self._waiting and full:
                raise BusyError(self.retry_after)
            self._jobs.append(job)
            self._waiting += len(items)
            self._changed.notify()
        return job.future

    @property
    def retry_after(self) -> int:
        """Seconds after which what waits now will be done."""
        return min(_LONGEST_WAIT, max(1, ceil(self._waiting * self._seconds)))

    def close(self) -> None:
        """Stop after the batch in hand; what waits fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self, polite: bool) -> None:
        if polite:
            _give_way()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    for job in self._jobs:
                        _fail(job, SlowError("the server is stopping"))
                    return
                batch = self._take()
            if batch:
                self._watch(len(batch))
                begun = time.perf_counter()
                self._answer(batch)
                seconds = (time.perf_counter() - begun) / len(batch)
                self._seconds = 0.8 * self._seconds + 0.2 * seconds if self._seconds else seconds

    def _take(self) -> list[tuple[_Job[T, R], int]]:
        """Take an item of each job in turn, until the batch is full or nothing waits."""
        batch: list[tuple[_Job[T, R], int]] = []
        while self._jobs and len(batch) < self._most:
            job = self._jobs.popleft()
            if job.future.done() or not (job.taken or job.future.set_running_or_notify_cancel()):
                self._waiting -= len(job.items) - job.taken
                continue
            batch.append((job, job.taken))
            job.taken += 1
            if job.taken < len(job.items):
                self._jobs.append(job)
        self._waiting -= len(batch)
        return batch

    def _answer(self, batch: list[tuple[_Job[T, R], int]]) -> None:
        try:
            rows = self._run([job.items[place] for job, place in batch])
        except Exception as error:  # of whatever kind, its own caller has to hear of it
            owners = {id(job): job for job, _ in batch}
            if len(owners) == 1:
                _fail(batch[0][0], error)
            else:  # one bad item must not spoil the others' answers
                for job in owners.values():
                    self._answer([entry for entry in batch if entry[0] is job])
            return
        for (job, place), row in zip(batch, rows, strict=True):
            job.found[place] = row
            if len(job.found) == len(job.items):
                job.future.set_result([job.found[number] for number in range(len(job.items))])


def _fail(job: _Job[Any, Any], error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)


def _give_way() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(19, nice + _POLITE))
