"""Turns: a few at a time, in order; who would wait too long hears so at once, and nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from miniclip.serve.failures import BusyError
from miniclip.serve.turns import Turns

LONG = 0.05  # seconds of a turn


async def visit(turns: Turns, name: int, done: list[int]) -> None:
    async with turns.turn():
        await asyncio.sleep(LONG)
        done.append(name)


async def seconds_known(turns: Turns) -> None:
    """Let one pass, so that a turn's length is known."""
    await visit(turns, 0, [])


def test_turns_come_in_order_and_only_so_many_side_by_side() -> None:
    async def story() -> None:
        turns = Turns(2, 60.0)
        inside = most = 0
        done: list[int] = []

        async def visitor(name: int) -> None:
            nonlocal inside, most
            async with turns.turn():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                done.append(name)

        await asyncio.gather(*(visitor(name) for name in range(7)))
        assert most == 2
        assert done == list(range(7))

    asyncio.run(story())


def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    async def story() -> None:
        turns = Turns(1, 3.5 * LONG)
        done: list[int] = []
        await seconds_known(turns)
        visits = [asyncio.create_task(visit(turns, name, done)) for name in range(8)]
        outcomes = await asyncio.gather(*visits, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BusyError)]
        # One in hand, and as many in line as their turns come in time: three of a length each, or
        # fewer on a computer that made the first turn longer than it had to be.
        assert 8 - len(refused) == len(done) <= 4
        assert done == sorted(done)
        assert {outcome.retry_after for outcome in refused} == {1}
        await visit(turns, 9, done)  # all places are free again
        assert done[-1] == 9

    asyncio.run(story())


def test_who_waits_longer_than_was_to_be_expected_is_told_so() -> None:
    async def story() -> None:
        turns, leave = Turns(1, LONG), asyncio.Event()

        async def stay() -> None:
            async with turns.turn():
                await leave.wait()

        async with turns.turn():
            pass  # turns seem to be short
        staying = asyncio.create_task(stay())
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await asyncio.wait_for(visit(turns, 1, []), 100 * LONG)
        leave.set()
        await staying

    asyncio.run(story())


def test_a_free_place_is_given_however_long_turns_have_taken() -> None:
    async def story() -> None:
        turns = Turns(1, LONG / 100)
        done: list[int] = []
        await seconds_known(turns)
        await visit(turns, 1, done)
        assert done == [1]

    asyncio.run(story())


def test_places_come_back_from_those_who_fail_and_those_who_leave() -> None:
    async def story() -> None:
        turns = Turns(1, 60.0)
        done: list[int] = []
        with pytest.raises(ZeroDivisionError):
            async with turns.turn():
                _ = 1 // 0
        held = asyncio.create_task(visit(turns, 1, done))
        waiting = asyncio.create_task(visit(turns, 2, done))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(held, waiting, return_exceptions=True)
        await visit(turns, 3, done)
        assert done == [1, 3]

    asyncio.run(story())
