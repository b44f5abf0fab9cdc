"""The plan against its promises, counted one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.errors import ConfigError
from miniclip.train.data.plan import BatchPlan, Plan

pytestmark = pytest.mark.train

sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def same(one: BatchPlan, other: BatchPlan) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@given(sizes, st.integers(0, 3))
def test_every_pass_shows_every_image_once_and_no_batch_shows_one_twice(
    size: tuple[int, int], seed: int
) -> None:
    n_images, batch_size = size
    plan = Plan([1] * n_images, batch_size=batch_size, seed=seed)
    batches = [plan.batch(step).images for step in range(4 * n_images)]
    assert all(len(set(batch)) == batch_size for batch in batches)
    stream = np.concatenate(batches)
    for start in range(0, len(stream) - n_images + 1, n_images):
        assert sorted(stream[start : start + n_images]) == list(range(n_images))


def test_after_five_passes_each_of_five_captions_was_shown_once() -> None:
    """Images with 5, 3, 2 and 1 captions side by side; batches that do not divide a pass."""
    counts = [5] * 13 + [3] * 4 + [2] * 3 + [1]
    plan = Plan(counts, batch_size=8, seed=2, views=4)
    shown: dict[int, list[int]] = {image: [] for image in range(len(counts))}
    for step in range(30 * len(counts) // 8):
        batch = plan.batch(step)
        for image, caption in zip(batch.images, batch.captions, strict=True):
            shown[int(image)].append(int(caption))
    for image, captions in shown.items():
        for start in range(0, len(captions) - counts[image] + 1, counts[image]):
            turn = captions[start : start + counts[image]]
            assert sorted(turn) == list(range(counts[image]))


def test_views_take_turns_and_are_not_tied_to_captions() -> None:
    plan = Plan([3] * 20, batch_size=20, seed=0, views=3)
    pairs = Counter[tuple[int, int]]()
    for step in range(60):
        batch = plan.batch(step)
        pairs.update(zip(batch.captions.tolist(), batch.views.tolist(), strict=True))
    assert len(pairs) == 9  # every caption is shown with every view
    assert sum(view == 0 for _, view in pairs.elements()) == 20 * 20


def test_a_step_is_a_pure_function_of_seed_and_step() -> None:
    counts = [5] * 23
    plan = Plan(counts, batch_size=7, seed=1, views=3)
    late = plan.batch(500)  # a resumed run begins anywhere
    assert same(late, Plan(counts, batch_size=7, seed=1, views=3).batch(500))
    for step in range(40):
        plan.batch(step)
    assert same(late, plan.batch(500))
    assert not same(late, Plan(counts, batch_size=7, seed=2, views=3).batch(500))


def test_the_order_changes_from_pass_to_pass() -> None:
    plan = Plan([1] * 50, batch_size=50, seed=0)
    assert not np.array_equal(plan.batch(0).images, plan.batch(1).images)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_the_same_batch(world_size: int) -> None:
    batch = Plan([5] * 30, batch_size=8, seed=3).batch(11)
    shares = [batch.share(rank, world_size) for rank in range(world_size)]
    together = BatchPlan(*(np.concatenate(rows) for rows in zip(*shares, strict=True)))
    assert same(together, batch)


def test_steps_of_a_number_of_passes() -> None:
    plan = Plan([1] * 6000, batch_size=256, seed=0)
    assert plan.steps(1) == 23
    assert plan.steps(15) == 352  # 90,000 images
    assert plan.steps(0.001) == 1


def test_a_batch_needs_as_many_images() -> None:
    with pytest.raises(ConfigError, match="a batch of 9 different images cannot be drawn from 8"):
        Plan([1] * 8, batch_size=9, seed=0)
