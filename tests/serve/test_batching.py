"""Batches across callers: who waits goes together, nobody is held up, nobody pays for others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from miniclip.serve.batched_encoder import BatchedEncoder
from miniclip.serve.batching import Batcher
from miniclip.serve.failures import BusyError, SlowError
from miniclip.testing import FakeEncoder


class Model:
    """Doubles numbers, when the gate is open; remembers its batches."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(numbers)
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


@contextmanager
def batcher(model: Model, *, most: int = 4, queue: int = 10) -> Iterator[Batcher[int, int]]:
    """Give a batcher whose model is busy with the number 0."""
    made = Batcher(model, most=most, queue=queue, name="test")
    first = made.submit([0])
    assert model.entered.wait(30)
    try:
        yield made
    finally:
        model.gate.set()
        made.close()
    assert first.result() == [0]


def test_what_waits_goes_together() -> None:
    model = Model()
    with batcher(model) as made:
        futures = [made.submit([number]) for number in (1, 2, 3)]
        model.gate.set()
        assert [future.result(30) for future in futures] == [[2], [4], [6]]
    assert model.batches == [[0], [1, 2, 3]]


def test_callers_take_turns() -> None:
    model = Model()
    with batcher(model) as made:
        many = made.submit([10, 11, 12, 14, 15, 16])
        one = made.submit([1])
        model.gate.set()
        assert one.result(30) == [2]
        assert many.result(30) == [20, 22, 24, 28, 30, 32]
    assert model.batches[1] == [10, 1, 11, 12]


def test_a_bad_item_fails_its_own_caller_alone() -> None:
    model = Model()
    with batcher(model) as made:
        bad, good = made.submit([13]), made.submit([1, 2])
        model.gate.set()
        assert good.result(30) == [2, 4]
        with pytest.raises(ValueError, match="13"):
            bad.result(30)


def test_a_full_queue_sends_newcomers_away() -> None:
    model = Model()
    with batcher(model, queue=3) as made:
        made.submit([1, 2])
        with pytest.raises(BusyError) as refused:
            made.submit([3, 4])
        assert refused.value.retry_after >= 1
        made.submit([3])
        assert made.waiting == 3


def test_who_gave_up_is_not_served() -> None:
    model = Model()
    with batcher(model) as made:
        assert made.submit([1]).cancel()
        last = made.submit([2])
        model.gate.set()
        assert last.result(30) == [4]
    assert model.batches == [[0], [2]]


def test_who_waits_when_it_closes_is_told() -> None:
    model = Model()
    with batcher(model) as made:
        closing = threading.Thread(target=made.close)
        late = made.submit([1])
        closing.start()
        model.gate.set()
        closing.join()
        assert isinstance(late.exception(30), SlowError) or late.result() == [2]
        with pytest.raises(SlowError):
            made.submit([2])


def test_threads_that_share_an_encoder_get_what_it_says() -> None:
    inner = FakeEncoder()
    shared = BatchedEncoder(inner, max_batch=3, queue=100)
    pixels = np.random.default_rng(1).random((7, 3, 16, 16), dtype=np.float32)

    found = shared.encode_pixels(pixels)

    np.testing.assert_allclose(found.embeddings, inner.encode_pixels(pixels).embeddings)
    np.testing.assert_allclose(found.features, inner.encode_pixels(pixels).features)
    np.testing.assert_array_equal(
        shared.encode_texts(["red", "sea"]), inner.encode_texts(["red", "sea"])
    )
    assert shared.encode_texts([]).shape == (0, 16)
    shared.close()
