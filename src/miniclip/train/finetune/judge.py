"""How good a student is on the validation images, and the mean of weights that is best there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.arrays import IntArray
from miniclip.probe.calibration import fit_temperature
from miniclip.train.finetune.student import Student

_AT_ONCE = 64


class Judgement(NamedTuple):
    """loss: cross-entropy in nats; cost: the same at the best temperature; accuracy: 0 to 1.

    The cost is what chooses, for a classifier gets its temperature in the end. By the loss alone,
    label smoothing would count as a fault and frozen weights would win.
    """

    loss: float
    cost: float
    accuracy: float


class Judge:
    """Validation rows of each look, (m, M) float16, and labels (m,)."""

    def __init__(
        self, looks: Sequence[NDArray[Any]], labels: IntArray, device: torch.device
    ) -> None:
        self._looks = looks
        self._labels = torch.from_numpy(labels)
        self._device = device

    @torch.no_grad()
    def __call__(self, student: Student) -> Judgement:
        """Judge by the mean of the features of the looks, as the exported model has them.

        The caller says, by autocast, how precise it is.
        """
        training = student.training
        student.eval()
        logits = []
        for start in range(0, len(self._labels), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            features = [
                student.features(torch.from_numpy(look[some]).to(self._device).float())
                for look in self._looks
            ]
            logits.append(student.logits(torch.stack(features).mean(0)).float().cpu())
        student.train(training)
        joined, labels = torch.cat(logits), self._labels
        temperature = fit_temperature(joined.numpy(), labels.numpy())
        hits = int((joined.argmax(1) == labels).sum())
        return Judgement(
            loss=float(F.cross_entropy(joined, labels)),
            cost=float(F.cross_entropy(joined / temperature, labels)),
            accuracy=hits / len(labels),
        )


class Interpolation(NamedTuple):
    """alpha: share of the tuned weights; judgements: by alpha, of all that were tried."""

    alpha: float
    judgements: Mapping[float, Judgement]


Weights = Mapping[str, Tensor]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters of a module, by name."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@torch.no_grad()
def set_interpolated(module: nn.Module, start: Weights, end: Weights, alpha: float) -> None:
    """Set every weight to (1 - alpha) start + alpha end (Wortsman et al. 2022, equation 1).

    At 0 and at 1 it is exactly the one and the other.
    """
    for name, parameter in module.named_parameters():
        parameter.copy_(end[name] if alpha == 1 else torch.lerp(start[name], end[name], alpha))
    torch.clear_autocast_cache()  # of what the weights were


def choose_interpolation(
    student: Student, start: Weights, alphas: Sequence[float], judge: Judge
) -> Interpolation:
    """Try means of the weights at the start and those of `student`, and leave it at the best.

    The best has the least cost; of equals, the one nearer to the start.
    """
    end = weights_of(student)
    judgements: dict[float, Judgement] = {}
    for alpha in sorted(set(alphas)):
        set_interpolated(student, start, end, alpha)
        judgements[alpha] = judge(student)
    best = min(judgements, key=lambda alpha: (judgements[alpha].cost, alpha))
    set_interpolated(student, start, end, best)
    return Interpolation(best, judgements)
