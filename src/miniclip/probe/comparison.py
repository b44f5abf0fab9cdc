"""Is one classifier better than another on the same images? A paired, exact answer.

Only images that one gets right and the other wrong tell the two apart; what both get right or both
wrong cancels out. It draws nothing at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.errors import ConfigError
from miniclip.metrics import Interval
from miniclip.probe.intervals import group_sums, number_groups

SIGNIFICANT = 0.05
_95_PERCENT = 1.959964


@dataclass(frozen=True)
class Comparison:
    """difference: accuracy of the first minus that of the second, in [-1, 1], with a 95 % interval.

    p: how often chance alone would set two equally good classifiers as far apart. verdict: "no
    difference", or which one is better; a difference counts when p < 0.05 and its interval leaves
    out 0.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p: float
    verdict: str


def compare(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Compare two classifiers on the same N images, whose groups share their luck.

    correct_a, correct_b: (N,) bool. groups: (N,); None: images stand alone.

    p: the exact sign-flip test over groups. If neither is better, each group's balance (its images
    that only A has right minus those that only B has) could as well have the other sign; p is the
    share of all sign patterns whose total is at least as far from 0. With single images this is
    the exact test of McNemar (1947). Interval: Agresti and Min (2005), "Simple improved confidence
    intervals for comparing matched proportions", with groups as units: two imaginary images, one
    that only A has right and one that only B has, keep it from shrinking to nothing.
    Raises ConfigError for no images or unequal lengths.
    """
    a, b = np.asarray(correct_a, np.int64), np.asarray(correct_b, np.int64)
    if len(a) != len(b):
        raise ConfigError(f"{len(a)} and {len(b)} answers; compare classifiers on the same images")
    group, _ = number_groups(groups, len(a))
    balance, sizes = group_sums(np.stack([a - b, np.ones_like(a)], axis=1), group).T
    difference = float(balance.sum() / len(a))
    centre = balance.sum() / (len(a) + 2)
    # Agresti and Min's variance, b + c + 1 - (b - c)^2 / (n + 2), written for groups of any size.
    squares = (
        np.square(balance - centre * sizes).sum() + (1 - centre) ** 2 / 2 + (1 + centre) ** 2 / 2
    )
    margin = _95_PERCENT * float(np.sqrt(squares)) / (len(a) + 2)
    interval = Interval(
        max(min(centre - margin, difference), -1.0), min(max(centre + margin, difference), 1.0)
    )
    p = _sign_flip_p(balance)
    better = p < SIGNIFICANT and not interval.low <= 0 <= interval.high
    verdict = f"{names[0] if difference > 0 else names[1]} is better" if better else "no difference"
    return Comparison(*names, difference, interval, p, verdict)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for one another (Holm 1979), in their order.

    Below 0.05 they are all right in 95 of 100 such families of comparisons.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    found: list[float] = adjusted.tolist()
    return found


def _sign_flip_p(balance: NDArray[np.int64]) -> float:
    """Two-sided p of sum(balance) among all sign patterns, from the exact distribution.

    The distribution of sum(+-|balance|) is built group by group, as counts of coins are.
    """
    steps = np.abs(balance[balance != 0])
    reach = int(steps.sum())
    chance = np.zeros(2 * reach + 1)  # chance[t + reach]: probability of the total t
    chance[reach] = 1.0
    for step in steps:
        moved = np.zeros_like(chance)
        moved[step:] += chance[:-step] / 2
        moved[:-step] += chance[step:] / 2
        chance = moved
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(balance.sum()))
    return float(min(chance[far].sum(), 1.0))
