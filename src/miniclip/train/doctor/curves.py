"""Checks of what a run logs step by step: loss, gradients, temperature, dev recall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from miniclip.train.doctor.finding import Finding

LossName = Literal["infonce", "sigmoid"]

MIN_STEPS = 100  # before that, any run stands near chance
CHANCE_SHARE = 0.95  # of the chance loss; a run that learns is soon below it
DIVERGED = 1.3  # loss of the last tenth of the steps over that of the best tenth
SCALE_BOUND = 100.0
SCALE_FLOOR = 1.0  # below, all probabilities of a batch are nearly equal
RECALL_FALL = 0.01  # one point below the best
ZERO_GRADIENTS = 0.5  # share of steps
SPIKE = 100.0  # a gradient norm over the median


def chance_loss(batch_size: int, loss: LossName = "infonce") -> float:
    """Return the loss of a model that cannot tell the pairs of a batch apart, in nats.

    infonce: ln B. sigmoid: the entropy of "1 of B is right", summed over a row, with the best
    constant logit: ln B + (B - 1) ln(B / (B - 1)), about ln B + 1.
    """
    if batch_size < 2:
        return 0.0
    chance = math.log(batch_size)
    if loss == "sigmoid":
        chance += (batch_size - 1) * math.log(batch_size / (batch_size - 1))
    return chance


def check_losses(
    losses: Sequence[float], batch_size: int, loss: LossName = "infonce"
) -> list[Finding]:
    """Find a loss that is not a number, at chance after 100 steps, or climbing."""
    broken = [step for step, value in enumerate(losses) if not math.isfinite(value)]
    if broken:
        return [
            Finding(
                "error",
                "The loss is not a number",
                f"It became {losses[broken[0]]} at step {broken[0]}; every weight since is lost.",
                "Lower the learning rate, lengthen the warm-up, clip gradients at norm 1, and use "
                "bf16 or float32 instead of float16; then start from the last good checkpoint.",
            )
        ]
    if len(losses) < MIN_STEPS:
        return []
    tenths = [float(np.median(part)) for part in np.array_split(np.asarray(losses), 10)]
    recent, best = tenths[-1], min(tenths)
    chance = chance_loss(batch_size, loss)
    if chance and recent >= CHANCE_SHARE * chance:
        return [
            Finding(
                "error",
                "The model has not learned anything",
                f"After {len(losses)} steps the loss is {recent:.3f}; guessing among the pairs of "
                f"a batch of {batch_size} gives {chance:.3f}.",
                "Check that each caption stands beside its own image, that the towers and heads "
                "are not all frozen, and try a learning rate 10 times larger and 10 times smaller.",
            )
        ]
    if recent > DIVERGED * best and recent - best > 0.1:
        return [
            Finding(
                "warning",
                "The loss climbs again",
                f"It was {best:.3f} at its best and is {recent:.3f} now.",
                "Lower the learning rate or lengthen the warm-up; keep the best checkpoint.",
            )
        ]
    return []


def check_gradients(norms: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Find a part that gets no gradient, a broken one, or single huge steps."""
    findings = []
    for part, values in norms.items():
        array = np.asarray(values, dtype=np.float64)
        if not array.size:
            continue
        finite = array[np.isfinite(array)]
        zero_share = float((array == 0).mean())
        median = float(np.median(finite)) if finite.size else 0.0
        if finite.size < array.size:
            findings.append(
                Finding(
                    "error",
                    f"The gradient of {part} is not a number",
                    f"{array.size - finite.size} of {array.size} steps are affected.",
                    "Lower the learning rate, use bf16 or float32 instead of float16, and look for "
                    "rows of zeros before normalisation.",
                )
            )
        elif zero_share > ZERO_GRADIENTS:
            findings.append(
                Finding(
                    "error",
                    f"No gradient reaches {part}",
                    f"Its gradient norm is zero in {zero_share:.0%} of the steps, so it stays as "
                    "it was.",
                    "Unfreeze it, or leave it out of the optimiser; look for a detach() or a "
                    "no_grad() between it and the loss, and for a ReLU that is dead everywhere.",
                )
            )
        elif median and finite.max() > SPIKE * median:
            findings.append(
                Finding(
                    "warning",
                    f"Single huge gradients in {part}",
                    f"The largest norm is {finite.max():.3g}, the usual one {median:.3g}.",
                    "Clip gradients at norm 1 and look at the batch of that step.",
                )
            )
    return findings


def check_temperature(logit_scales: Sequence[float]) -> list[Finding]:
    """Find a temperature that rests on its upper bound, or has flattened all probabilities."""
    if len(logit_scales) < MIN_STEPS:
        return []
    recent = float(np.median(logit_scales[-len(logit_scales) // 4 :]))
    if recent >= 0.99 * SCALE_BOUND:
        return [
            Finding(
                "warning",
                "The temperature rests on its bound",
                f"The logit scale is {recent:.1f} and may not pass {SCALE_BOUND:g}: the loss "
                "wants sharper answers than cosines allow, often because it has learned the "
                "training pairs by heart.",
                "Give the temperature a smaller learning rate and no weight decay, use a larger "
                "batch or label smoothing, or stop earlier.",
            )
        ]
    if recent < SCALE_FLOOR:
        return [
            Finding(
                "warning",
                "The temperature has flattened everything",
                f"The logit scale fell to {recent:.2f}; below {SCALE_FLOOR:g} right and wrong "
                "pairs get nearly the same probability.",
                "Start it at 1/0.07, give it a smaller learning rate, and check that the captions "
                "belong to their images.",
            )
        ]
    return []


def check_overfitting(epoch_losses: Sequence[float], dev_recalls: Sequence[float]) -> list[Finding]:
    """Find a dev recall that fell, twice running, while the training loss went on falling."""
    n_epochs = min(len(epoch_losses), len(dev_recalls))
    if n_epochs < 3:
        return []
    losses, recalls = epoch_losses[:n_epochs], dev_recalls[:n_epochs]
    best = int(np.argmax(recalls))
    fallen = all(recalls[best] - recall >= RECALL_FALL for recall in recalls[-2:])
    if best > n_epochs - 3 or not fallen or losses[-1] >= losses[best]:
        return []
    return [
        Finding(
            "warning",
            "The run over-fits",
            f"Since evaluation {best + 1} of {n_epochs} the dev recall fell from "
            f"{recalls[best]:.3f} to {recalls[-1]:.3f} while the training loss fell from "
            f"{losses[best]:.3f} to {losses[-1]:.3f}.",
            f"Use the checkpoint of evaluation {best + 1}; train for fewer epochs, or add data, "
            "augmentation, dropout, weight averaging or class names.",
        )
    ]
