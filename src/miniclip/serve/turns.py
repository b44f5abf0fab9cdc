"""`Turns`: who may come in now, who waits a moment, and who is told to come back later.

A computer that answers more people at once than it has processors answers all of them late. So a
few are answered at a time, in the order in which they came; whoever would wait too long for that
hears at once that the server is busy, which costs nobody anything. It knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

from miniclip.serve.failures import BusyError


class Turns:
    """Turns of one event loop. at_once: that are taken side by side; wait_seconds: for one."""

    def __init__(self, at_once: int, wait_seconds: float) -> None:
        self._at_once, self._wait_seconds = at_once, wait_seconds
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._seconds = 0.0  # that a turn takes, lately

    @property
    def _expected_seconds(self) -> float:
        """Until a newcomer's turn."""
        return (self._waiting + 1) * self._seconds / self._at_once

    @property
    def _retry_after(self) -> int:
        return max(1, ceil(self._expected_seconds))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and take it; BusyError when it would not come in time, or does not."""
        if self._places.locked() and self._expected_seconds > self._wait_seconds:
            raise BusyError(self._retry_after)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise BusyError(self._retry_after) from None
        finally:
            self._waiting -= 1
        begun = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begun
            self._seconds = 0.9 * self._seconds + 0.1 * seconds if self._seconds else seconds
            self._places.release()
