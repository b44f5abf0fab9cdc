"""Means of weights: both ends are exact, and the one of least loss is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miniclip.probe.heads.linear import LinearHead
from miniclip.train.finetune.judge import (
    Judge,
    choose_interpolation,
    set_interpolated,
    weights_of,
)
from miniclip.train.finetune.student import Student

pytestmark = pytest.mark.train


class OneFactor(nn.Module):
    """A tower whose features are its rows, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(2))

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.factor


def student(factor: float) -> Student:
    tower = OneFactor()
    nn.init.constant_(tower.factor, factor)
    one, zero = np.ones(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    head = LinearHead(np.eye(2, dtype=np.float32), zero, mean=zero, scale=one)
    return Student(tower, tower, head, dropout=0.5)  # type: ignore[arg-type]


LABELS = np.array([0, 0, 1, 1])
ROWS = np.array([[2, 0], [1, 0], [0, 2], [0.2, 0.1]], dtype=np.float16)


def loss_by_hand(factor: float, *looks: np.ndarray) -> float:
    logits = factor * np.stack(looks).astype(np.float64).mean(axis=0)
    right = logits[np.arange(4), LABELS]
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - right))


def test_a_judgement_is_the_loss_of_the_mean_of_the_looks() -> None:
    second = ROWS[:, ::-1].copy() * np.float16(0.5)
    judged = Judge([ROWS, second], LABELS, torch.device("cpu"))(student(3.0).train())
    assert judged.loss == pytest.approx(loss_by_hand(3.0, ROWS, second), abs=1e-3)
    assert judged.accuracy == 0.75


def test_its_cost_is_the_loss_at_the_best_temperature() -> None:
    """So the same ranking, made more or less sure of itself, costs the same."""
    rows = np.concatenate([ROWS, ROWS[:, ::-1]])  # half of the labels are wrong now
    judge = Judge([rows], np.tile(LABELS, 2), torch.device("cpu"))
    some = [judge(student(factor)) for factor in (0.3, 1.0, 5.0)]
    assert some[0].loss < some[1].loss < some[2].loss
    assert all(judged.cost <= judged.loss + 1e-6 for judged in some)
    assert some[2].cost == pytest.approx(some[0].cost, abs=1e-3)


def test_both_ends_are_exact_and_between_them_lies_the_mean() -> None:
    learner = student(0.1)
    start, end = weights_of(learner), weights_of(student(0.7))
    for alpha, expected in ((0.0, start), (1.0, end)):
        set_interpolated(learner, start, end, alpha)
        for name, weight in weights_of(learner).items():
            assert torch.equal(weight, expected[name])
    set_interpolated(learner, start, end, 0.5)
    torch.testing.assert_close(weights_of(learner)["tower.factor"], torch.full((2,), 0.4))


def test_the_mean_of_least_cost_is_taken_and_left_in_place() -> None:
    """Features change here: a share of the second one is wrong, but only a large one harms."""
    learner, start = student(1.0), weights_of(student(1.0))
    with torch.no_grad():
        learner.get_parameter("tower.factor").copy_(torch.tensor([1.0, -3.0]))
        start["tower.factor"].copy_(torch.tensor([1.0, 9.0]))
    judge = Judge([ROWS], LABELS, torch.device("cpu"))
    alphas = (0.0, 0.5, 1.0)
    ends, costs = weights_of(learner), {}
    for alpha in alphas:
        set_interpolated(learner, start, ends, alpha)
        costs[alpha] = judge(learner).cost
    set_interpolated(learner, start, ends, 1)
    chosen = choose_interpolation(learner, start, alphas, judge)
    assert chosen.alpha == min(costs, key=costs.__getitem__)
    assert {alpha: judged.cost for alpha, judged in chosen.judgements.items()} == costs
    assert chosen.alpha < 1
    expected = (1 - chosen.alpha) * start["tower.factor"] + chosen.alpha * ends["tower.factor"]
    torch.testing.assert_close(weights_of(learner)["tower.factor"], expected)


def test_an_equal_cost_stays_near_the_start() -> None:
    learner = student(1.0)
    chosen = choose_interpolation(
        learner, weights_of(learner), (1.0, 0.5), Judge([ROWS], LABELS, torch.device("cpu"))
    )
    assert chosen.alpha == 0.5


def test_each_mean_is_judged_by_its_own_weights_in_bf16_too() -> None:
    """Autocast keeps the weights that it has cast, as they were when it first met them."""
    learner, start = student(1.0), weights_of(student(1.0))
    start["head.weight"].mul_(-1)  # right becomes wrong
    judge = Judge([ROWS], LABELS, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        chosen = choose_interpolation(learner, start, (0.0, 1.0), judge)
    assert [judged.accuracy for judged in chosen.judgements.values()] == [0.25, 0.75]
