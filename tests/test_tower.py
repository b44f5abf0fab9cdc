"""A tower gives every batch its outputs in order, and loads its weights once where it can."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from miniclip.arrays import FloatArray
from miniclip.errors import BundleError
from miniclip.tower import Tower
from miniclip.tower_graph import Feeds, FoundPort, Ports, TowerGraph

PORTS: Ports = {"x": ("tensor(float)", (None, 1))}
OUTPUT: Ports = {"y": ("tensor(float)", (None, 1))}


class Doubling(TowerGraph):
    """Doubles its input; `loaded` lists how every graph was loaded."""

    loaded: list[tuple[int, int]]
    together: Barrier | None = None

    def load(self) -> None:
        self.loaded.append((self.threads, self.lanes))

    def found(self) -> tuple[Mapping[str, FoundPort], Mapping[str, FoundPort]]:
        port = FoundPort("tensor(float)", ("B", 1))
        return {"x": port}, {"y": port}

    def call(self, feeds: Feeds) -> list[FloatArray]:
        if self.together is not None:
            self.together.wait(timeout=10)
        if feeds["x"][0, 0] < 0:
            raise ValueError("below zero")
        return [2 * feeds["x"]]


@pytest.fixture
def doubling() -> type[Doubling]:
    class Fresh(Doubling):
        loaded: list[tuple[int, int]] = []  # noqa: RUF012 -- a class of its own for each test

    return Fresh


def tower(graph: type[Doubling], threads: int, *, wide: bool = True) -> Tower:
    make = partial(graph, Path("doubling.onnx"), inputs=PORTS, outputs=OUTPUT)
    return Tower(make, threads, wide=wide)


def batches(*numbers: float) -> list[Feeds]:
    return [{"x": np.array([[number]], dtype=np.float32)} for number in numbers]


def test_outputs_come_in_the_order_of_the_batches(doubling: type[Doubling]) -> None:
    found = tower(doubling, 3).run(batches(*range(20)))
    assert [rows.item() for (rows,) in found] == [2 * number for number in range(20)]


def test_batches_run_side_by_side(doubling: type[Doubling]) -> None:
    doubling.together = Barrier(2)  # each run waits for another one
    assert len(tower(doubling, 2).run(batches(1, 2, 3, 4))) == 4


def test_a_single_batch_has_all_threads(doubling: type[Doubling]) -> None:
    tower(doubling, 4).run(batches(1))
    assert doubling.loaded == [(4, 1)]


def test_a_single_batch_of_a_tower_that_is_not_wide_has_one(doubling: type[Doubling]) -> None:
    narrow = tower(doubling, 4, wide=False)
    narrow.run(batches(1))
    narrow.run(batches(1, 2))
    assert doubling.loaded == [(1, 4)]


def test_weights_are_loaded_once_where_many_batches_come_first(doubling: type[Doubling]) -> None:
    both = tower(doubling, 4)
    both.run(batches(1, 2))
    both.run(batches(3))
    assert doubling.loaded == [(1, 4)]


def test_no_batches_load_nothing(doubling: type[Doubling]) -> None:
    assert tower(doubling, 2).run([]) == []
    assert doubling.loaded == []


def test_an_error_in_one_lane_is_an_error_of_the_call(doubling: type[Doubling]) -> None:
    with pytest.raises(BundleError, match=r"doubling\.onnx failed to run: below zero"):
        tower(doubling, 2).run(batches(1, -1, 2))
