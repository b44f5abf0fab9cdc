"""One step: its rate, its clipping, its random numbers, and which way its gradients come."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from miniclip.train.config import read_recipe
from miniclip.train.data.batches import Batch
from miniclip.train.module import Contrastive, clip_gradients, rate_factor, seed_step
from miniclip.train.recipe import Training
from tests.train.tiny_model import tiny_model
from tests.train.tiny_run import write_recipe

pytestmark = pytest.mark.train


def test_the_rate_rises_evenly_and_falls_as_half_a_cosine() -> None:
    settings = Training(passes=1, warm_up=0.1, floor=0.2)
    factors = [rate_factor(step, 100, settings) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[99] == pytest.approx(0.2, abs=1e-3)
    assert rate_factor(0, 1, Training(passes=1)) == 1  # a run of one step has no warm-up


@pytest.mark.parametrize("largest", [0.5, 1e6, 0.0])
def test_gradients_are_clipped_as_torch_clips_them(largest: float) -> None:
    torch.manual_seed(0)
    parts = {"one": nn.Linear(3, 2), "two": nn.Linear(2, 4)}
    for part in parts.values():
        for weight in part.parameters():
            weight.grad = torch.randn_like(weight)
    weights = [weight for part in parts.values() for weight in part.parameters()]
    expected = [nn.Parameter(weight.detach().clone()) for weight in weights]
    for copy, weight in zip(expected, weights, strict=True):
        assert weight.grad is not None
        copy.grad = weight.grad.clone()
    norm = nn.utils.clip_grad_norm_(expected, largest or math.inf)
    groups = [
        {"params": [weight], "name": name + suffix}
        for name, part in parts.items()
        for weight, suffix in ((part.weight, ""), (part.bias, ".plain"))
    ]
    norms = clip_gradients(torch.optim.SGD(groups, lr=0.1), largest)
    assert list(norms) == ["one", "two"]
    total = math.sqrt(sum(float(value) ** 2 for value in norms.values()))
    assert total == pytest.approx(float(norm), rel=1e-6)
    for copy, weight in zip(expected, weights, strict=True):
        torch.testing.assert_close(weight.grad, copy.grad)


def test_random_numbers_follow_from_seed_step_and_rank_alone() -> None:
    def drawn(seed: int, step: int, rank: int) -> tuple[float, float]:
        numbers = seed_step(seed, step, rank)
        return float(torch.rand(())), float(numbers.random())

    assert drawn(0, 3, 1) == drawn(0, 3, 1)
    assert len({drawn(0, 3, 1), drawn(1, 3, 1), drawn(0, 4, 1), drawn(0, 3, 0)}) == 4


def test_processes_agree_on_the_way_of_the_gradients_even_if_one_has_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable image leaves a share of 4 with 3 rows; the other process still has 4."""
    recipe = read_recipe(write_recipe(tmp_path), ["train.micro_batch=3"])
    module = Contrastive(tiny_model(tmp_path), recipe, total=4, class_names=None)
    calls = []

    def cached(self: Contrastive, batch: Batch, micro: int) -> Tensor:
        calls.append((len(batch.groups), micro))
        return torch.zeros(())

    monkeypatch.setattr(Contrastive, "_cached_backward", cached)
    ids = torch.ones(3, 4, dtype=torch.int64)
    batch = Batch(0, torch.zeros(3, 3, 32, 32), ids, ids, torch.arange(3), torch.arange(3))
    module._backward(batch, seed_step(0, 0, 0))
    assert calls == [(3, 3)]
