"""What a map is worth: hide what it points at first, and see whether the score falls sooner.

Deletion and insertion (Petsiuk et al. 2018, section 4.3), of a map, of a spot in the middle, and of
the same map laid down anywhere else: photographers put things in the middle, and a method that
found nothing would do no better than it does by chance. It draws no map and calls no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.explain.subject import Subject
from miniclip.metrics import Interval

Array = NDArray[np.float64]
Measure = Literal["deletion_auc", "insertion_auc", "gain"]
Verdict = Literal["better than chance", "no better than the middle", "no better than chance"]

MEASURES: dict[str, Measure] = {
    "deletion": "deletion_auc",
    "insertion": "insertion_auc",
    "gain": "gain",
}
STEPS = 8
PLACES = 19  # the best of twenty by chance alone: once in twenty times
LEVEL = 0.05
_SPREAD = 0.25  # standard deviation of the spot in the middle, as a share of each side


@dataclass(frozen=True)
class Curves:
    """Scores while the cells of a map are hidden, or shown, the highest first.

    deletion: (K + 1,) float64, from the whole picture to none of it; insertion: from a blurred
    picture to the whole one; at equal steps, in units of the score.
    """

    deletion: Array
    insertion: Array

    @property
    def deletion_auc(self) -> float:
        """Mean score on the way; the lower, the more the first cells carried."""
        return _mean(self.deletion)

    @property
    def insertion_auc(self) -> float:
        """Mean score on the way; the higher, the more the first cells carried."""
        return _mean(self.insertion)

    @property
    def gain(self) -> float:
        """Insertion minus deletion: one number that both speak in."""
        return self.insertion_auc - self.deletion_auc


@dataclass(frozen=True)
class Credibility:
    """How a map does, beside a spot in the middle and the same map at P random places."""

    map: Curves
    centre: Curves
    elsewhere: tuple[Curves, ...]

    @property
    def p(self) -> float:
        """How often a random place has at least the gain of the map, in (0, 1].

        The map counts as one of them, which makes it a permutation test (Phipson and Smyth 2010).
        """
        as_good = sum(curves.gain >= self.map.gain for curves in self.elsewhere)
        return (1 + as_good) / (1 + len(self.elsewhere))

    @property
    def verdict(self) -> Verdict:
        """Whether the map may be believed; chance is beaten where p is at most `LEVEL`."""
        if self.p > LEVEL:
            return "no better than chance"
        if self.map.gain <= self.centre.gain:
            return "no better than the middle"
        return "better than chance"

    def chance(self, measure: Measure) -> Interval:
        """Where 95 of 100 random places lie."""
        found = [getattr(curves, measure) for curves in self.elsewhere]
        low, high = np.quantile(found, [0.025, 0.975])
        return Interval(float(low), float(high))

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip explain --json` says of it."""
        measures = {
            name: {
                "map": getattr(self.map, measure),
                "centre": getattr(self.centre, measure),
                "random": float(np.mean([getattr(one, measure) for one in self.elsewhere])),
                "random_interval": list(self.chance(measure)),
            }
            for name, measure in MEASURES.items()
        }
        return {
            "verdict": self.verdict,
            "p": self.p,
            "places": len(self.elsewhere),
            **measures,
            "deletion_curve": self.map.deletion.tolist(),
            "insertion_curve": self.map.insertion.tolist(),
        }


def judge(
    subject: Subject, drops: FloatArray, *, places: int = PLACES, seed: int = 0
) -> Credibility:
    """Judge a map (G, G) of a subject; with fewer than 19 places chance is never beaten.

    The random places are mirrored and shifted, what leaves on one side coming back on the other,
    so that they are as smooth as the map is.
    """
    rng = np.random.default_rng(seed)
    elsewhere = [_laid_elsewhere(drops, rng) for _ in range(places)]
    found = curves(subject, [drops, centre_map(len(drops)), *elsewhere], seed=seed)
    return Credibility(found[0], found[1], tuple(found[2:]))


def curves(
    subject: Subject, maps: Sequence[FloatArray], *, steps: int = STEPS, seed: int = 0
) -> list[Curves]:
    """Return deletion and insertion of M maps (G, G) of one picture, asked about together.

    Cells of equal value go in random order, the same for all maps. Deletion leaves the picture's
    mean colour, insertion begins at the blurred picture, as Petsiuk et al. do.
    """
    cells = maps[0].size
    lots = np.random.default_rng(seed).permutation(cells)
    firsts = [list(_first_cells(one, steps, lots)) for one in maps]
    ends = [np.ones(maps[0].shape), np.zeros(maps[0].shape)]
    whole, blank = subject.scores(ends)
    (blurred,) = subject.scores(ends[1:], "blur")
    inner = steps - 1
    hidden = subject.scores(~mask for masks in firsts for mask in masks)
    shown = subject.scores((mask for masks in firsts for mask in masks), "blur")
    return [
        Curves(np.array([whole, *falling, blank]), np.array([blurred, *rising, whole]))
        for falling, rising in zip(
            hidden.reshape(len(maps), inner), shown.reshape(len(maps), inner), strict=True
        )
    ]


def centre_map(cells: int) -> FloatArray:
    """Return a Gaussian spot in the middle: (cells, cells) float32, at most 1."""
    along = (np.arange(cells) + 0.5) / cells - 0.5
    bell = np.exp(-0.5 * (along / _SPREAD) ** 2)
    return np.outer(bell, bell).astype(np.float32)


def _first_cells(
    drops: FloatArray, steps: int, lots: NDArray[np.int64]
) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of the highest 1/K, 2/K, ... of the cells, short of all of them."""
    order = np.lexsort((lots, -drops.ravel()))
    for step in range(1, steps):
        mask = np.zeros(drops.size, dtype=bool)
        mask[order[: round(drops.size * step / steps)]] = True
        yield mask.reshape(drops.shape)


def _laid_elsewhere(drops: FloatArray, rng: np.random.Generator) -> FloatArray:
    rows, columns = drops.shape
    mirrored = drops[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return np.roll(mirrored, (rng.integers(rows), rng.integers(columns)), axis=(0, 1))


def _mean(curve: Array) -> float:
    return float(np.trapezoid(curve) / (len(curve) - 1))
