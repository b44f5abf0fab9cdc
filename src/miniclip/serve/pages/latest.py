"""`Latest`: of all that one visitor asks, only the last is worked on. It knows no page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Visit(Generic[T]):
    room: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: asyncio.Task[T] | None = None


class Latest(Generic[T]):
    """The question in hand of each visit, by name; one event loop."""

    def __init__(self) -> None:
        self._visits: dict[str, _Visit[T]] = {}

    async def ask(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """Cancel what the visit asked before, and work when that has ended.

        None where a later question, or `leave`, came before the answer.
        """
        visit = self._visits.setdefault(name, _Visit())
        if visit.asked:
            visit.asked.cancel()

        async def answer() -> T:
            async with visit.room:
                return await work()

        asked = visit.asked = asyncio.create_task(answer())
        try:
            await asyncio.wait([asked])
            return None if asked.cancelled() else asked.result()
        finally:
            asked.cancel()
            if visit.asked is asked:
                visit.asked = None

    def leave(self, name: str) -> None:
        """End a visit, and what it asked."""
        visit = self._visits.pop(name, None)
        if visit and visit.asked:
            visit.asked.cancel()
