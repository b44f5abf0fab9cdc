"""The course of a training: which weights are kept, and when it ends."""

from __future__ import annotations

import pytest
import torch

from miniclip.train.finetune.judge import Judgement
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.finetune.training import Course

pytestmark = pytest.mark.train


def course(*costs: float) -> Course:
    """Return the course of epochs that were judged so; the weight of each is its number."""
    made = Course()
    for number, cost in enumerate(costs, start=1):
        judged = Judgement(loss=10 * cost, cost=cost, accuracy=0.5)
        made.add((0.1, 0.9), judged, {"weight": torch.tensor(number)})
    return made


def test_the_weights_of_the_least_cost_are_kept() -> None:
    made = course(0.5, 0.2, 0.3, 0.2)
    assert made.best_epoch == int(made.best["weight"]) == 2
    assert made.curves.validation_loss == (5.0, 2.0, 3.0, 2.0)
    assert made.curves.train_accuracy == (0.9,) * 4


def test_something_is_kept_even_of_a_training_that_judges_nothing() -> None:
    assert course(float("nan")).best


def test_it_ends_with_its_epochs_or_when_patience_does() -> None:
    settings = FinetuneSettings(epochs=5, patience=2)
    assert not course(0.5, 0.4, 0.6).is_over(settings)
    assert course(0.5, 0.4, 0.6, 0.7).is_over(settings)
    assert course(5, 4, 3, 2, 1).is_over(settings)
    assert not course(0.5, 0.6, 0.7, 0.8).is_over(FinetuneSettings(epochs=5, patience=0))
