"""Averages of weights against the same sums done by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from miniclip.errors import ConfigError, TrainingError
from miniclip.train.averaging import WeightAverage


def line(weight: float) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, weight)
    return module


def averaged(average: WeightAverage, module: nn.Linear) -> float:
    with average.swapped():
        return float(module.weight.detach())


def step(module: nn.Linear, weight: float, average: WeightAverage) -> None:
    nn.init.constant_(module.weight, weight)
    average.update()


def test_the_average_follows_the_formula_with_its_warm_up() -> None:
    module = line(0.0)
    average = WeightAverage(module, decay=0.3)
    expected = 0.0
    for n, weight in enumerate([1.0, 4.0, -2.0, 8.0, 5.0], start=1):
        step(module, weight, average)
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    assert averaged(average, module) == pytest.approx(expected, abs=1e-6)


def test_without_warm_up_the_first_weight_is_forgotten_slowly() -> None:
    module = line(10.0)
    average = WeightAverage(module, decay=0.9, warm_up=False)
    step(module, 0.0, average)
    assert averaged(average, module) == pytest.approx(9.0)


def test_evaluation_sees_the_average_and_training_goes_on_from_its_own_weights() -> None:
    module = line(0.0)
    average = WeightAverage(module, decay=0.5, warm_up=False)
    step(module, 1 / 3, average)
    own = module.weight.detach().clone()
    with average.swapped():
        assert float(module.weight.detach()) == pytest.approx(1 / 6)
    assert torch.equal(module.weight, own)
    with pytest.raises(RuntimeError, match="in the middle"), average.swapped():
        raise RuntimeError("in the middle")
    assert torch.equal(module.weight, own)


def test_frozen_weights_are_not_averaged_until_they_thaw() -> None:
    module = nn.Sequential(line(1.0), line(2.0))
    module[0].requires_grad_(False)
    average = WeightAverage(module, decay=0.5, warm_up=False)
    assert list(average.state_dict()["averages"]) == ["1.weight"]
    module[0].requires_grad_(True)
    average.update()  # joins at its present value, 1
    nn.init.constant_(module[0].weight, 3.0)  # type: ignore[arg-type]
    average.update()
    assert float(average.state_dict()["averages"]["0.weight"]) == pytest.approx(2.0)


def test_small_steps_of_bfloat16_weights_are_not_lost() -> None:
    """In bfloat16 the step from 1 by 0.001 x 0.01 would be rounded away a thousand times."""
    module = line(1.0).to(torch.bfloat16)
    average = WeightAverage(module, decay=0.999, warm_up=False)
    nn.init.constant_(module.weight, 1.0078125)  # the next bfloat16
    for _ in range(1000):
        average.update()
    mean = float(average.state_dict()["averages"]["weight"])
    assert mean == pytest.approx(1 + 0.0078125 * (1 - 0.999**1000), abs=1e-5)


def test_a_resumed_average_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    module = line(0.0)
    unbroken = WeightAverage(module, decay=0.9)
    for weight in (1.0, 2.0, 3.0):
        step(module, weight, unbroken)
    torch.save(unbroken.state_dict(), tmp_path / "average.pt")
    resumed = WeightAverage(module, decay=0.9)
    resumed.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
    for average in (unbroken, resumed):
        step(module, 7.0, average)
    assert averaged(resumed, module) == averaged(unbroken, module)
    assert resumed.updates == 4


def test_the_average_of_another_model_is_refused() -> None:
    state = WeightAverage(line(0.0)).state_dict()
    with pytest.raises(TrainingError, match=r"another model.*'bias'"):
        WeightAverage(nn.Linear(1, 1)).load_state_dict(state)
    with pytest.raises(TrainingError, match="another model"):
        WeightAverage(nn.Linear(2, 1, bias=False)).load_state_dict(state)
    with pytest.raises(ConfigError, match="decay 1"):
        WeightAverage(line(0.0), decay=1)
