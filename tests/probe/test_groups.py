"""Images are together when any chain of reasons joins them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from miniclip.probe.groups import join_groups, join_pairs

NONE = np.empty((0, 2), dtype=np.int64)


def by_painting(pairs: list[tuple[int, int]], count: int) -> list[int]:
    """Paint the partner's colour over one's own until nothing changes; then number by order."""
    colour = list(range(count))
    for _ in range(count):
        for one, other in pairs:
            old, new = sorted((colour[one], colour[other]))[::-1]
            colour = [new if each == old else each for each in colour]
    order = list(dict.fromkeys(colour))
    return [order.index(each) for each in colour]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_pairs_join_in_chains(pairs: list[tuple[int, int]]) -> None:
    joined = join_pairs(np.array(pairs, dtype=np.int64).reshape(-1, 2), 12)
    assert joined.tolist() == by_painting(pairs, 12)
    assert joined.dtype == np.int64


def test_without_a_reason_each_stands_alone() -> None:
    assert join_pairs(NONE, 4).tolist() == [0, 1, 2, 3]
    assert join_groups(["a", "b", "c"]).tolist() == [0, 1, 2]


def test_repeats_and_patients_join() -> None:
    repeats = np.array([0, 1, 1, 2, 3, 4])
    patients = ("x", "y", "z", "z", "w", "x")
    assert join_groups(repeats, None, patients).tolist() == [0, 1, 1, 1, 2, 0]
