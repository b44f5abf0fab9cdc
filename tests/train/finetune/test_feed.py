"""Which images an epoch visits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miniclip.train.finetune.feed import Feed, LabelledSources
from miniclip.train.finetune.halves import cut
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.finetune.source import load_looks
from tests.train.finetune.conftest import PICTURES, Case

pytestmark = pytest.mark.train

ROWS = np.arange(PICTURES)
GROUPS = np.array([7] * 10 + [3] * 2 + list(range(10, 28)))  # ten copies, two, and 18 without


def visits(case: Case, per_group: int, epochs: int) -> list[list[int]]:
    """Return the images that each epoch visits; their labels are their numbers here."""
    settings = FinetuneSettings(per_group=per_group, batch_size=8, unfreeze="last:1")
    images = LabelledSources(case.sources, ROWS, GROUPS, ("any",), ROWS[:25], ROWS[25:])
    looks = load_looks(case.bundle)
    frozen = cut(looks.tower, settings, seed=0).frozen
    feed = Feed(images, looks, frozen, settings, seed=0, device=torch.device("cpu"))
    found = [
        [int(number) for batch in feed.training(epoch) for number in batch.labels]
        for epoch in range(epochs)
    ]
    assert {len(epoch) for epoch in found} == {images.visits(per_group)}
    return found


def test_every_training_image_once_an_epoch_in_an_order_of_its_own(case: Case) -> None:
    first, second = visits(case, 0, 2)
    assert sorted(first) == sorted(second) == list(range(25))
    assert first != second


@pytest.mark.parametrize(("per_group", "copies", "pair"), [(1, 1, 1), (2, 2, 2), (4, 4, 2)])
def test_of_a_group_no_more_than_asked_for_and_drawn_anew(
    case: Case, per_group: int, copies: int, pair: int
) -> None:
    epochs = visits(case, per_group, 12)
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
        assert sum(number < 10 for number in epoch) == copies
        assert sum(10 <= number < 12 for number in epoch) == pair
        assert set(range(12, 25)) <= set(epoch)
    assert len({number for epoch in epochs for number in epoch if number < 10}) > copies + 2
