"""What a map is worth: hide what it points at first, and see whether the score falls sooner.

Deletion and insertion (Petsiuk et al. 2018, section 4.3) of a map, of a spot in the middle, where
photographers put things, and of random maps as smooth as this one, which is what a method that
found nothing would draw. It calls no method.
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
RANDOM = 19  # the best of twenty by chance alone: once in twenty times
LEVEL = 0.05
_SPREAD = 0.25  # standard deviation of the spot in the middle, as a share of each side


@dataclass(frozen=True)
class Curves:
    """Scores while the cells of a map are hidden, or shown, the highest first.

    deletion: (K + 1,) float64, from the whole picture to none of it; insertion: the other way; at
    equal steps, in units of the score.
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
    """How a map does, beside a spot in the middle and some random maps."""

    map: Curves
    centre: Curves
    random: tuple[Curves, ...]

    @property
    def p(self) -> float:
        """How often a random map has at least the gain of this one, in (0, 1].

        This one counts as one of them, as in any test by random draws (Phipson and Smyth 2010).
        """
        return (1 + self.as_good) / (1 + len(self.random))

    @property
    def as_good(self) -> int:
        """How many of the random maps have at least the gain of this one."""
        return sum(curves.gain >= self.map.gain for curves in self.random)

    @property
    def verdict(self) -> Verdict:
        """Whether the map may be believed; chance is beaten where p is at most `LEVEL`."""
        if self.p > LEVEL:
            return "no better than chance"
        if self.map.gain <= self.centre.gain:
            return "no better than the middle"
        return "better than chance"

    def chance(self, measure: Measure) -> Interval:
        """Where 95 of 100 random maps lie."""
        found = [getattr(curves, measure) for curves in self.random]
        low, high = np.quantile(found, [0.025, 0.975])
        return Interval(float(low), float(high))

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip explain --json` says of it."""
        measures = {
            name: {
                "map": getattr(self.map, measure),
                "centre": getattr(self.centre, measure),
                "random": float(np.mean([getattr(one, measure) for one in self.random])),
                "random_interval": list(self.chance(measure)),
            }
            for name, measure in MEASURES.items()
        }
        return {
            "verdict": self.verdict,
            "p": self.p,
            "random_maps": len(self.random),
            **measures,
            "deletion_curve": self.map.deletion.tolist(),
            "insertion_curve": self.map.insertion.tolist(),
        }


def judge(
    subject: Subject, drops: FloatArray, *, random: int = RANDOM, seed: int = 0
) -> Credibility:
    """Judge a map (G, G) of a subject; fewer than 19 random maps can show nothing at `LEVEL`."""
    rng = np.random.default_rng(seed)
    others = [random_like(drops, rng) for _ in range(random)]
    found = curves(subject, [drops, centre_map(len(drops)), *others], seed=seed)
    return Credibility(found[0], found[1], tuple(found[2:]))


def curves(
    subject: Subject, maps: Sequence[FloatArray], *, steps: int = STEPS, seed: int = 0
) -> list[Curves]:
    """Return deletion and insertion of M maps (G, G) of one picture, asked about together.

    Cells of equal value go in random order, the same for all maps. Hidden cells show the mean
    colour of the picture both ways. Petsiuk et al. begin insertion at a blurred picture; but that
    still has its colours at their places, and answers all that these decide before it begins.
    """
    cells = maps[0].size
    lots = np.random.default_rng(seed).permutation(cells)
    firsts = [list(_first_cells(one, steps, lots)) for one in maps]
    ends = [np.ones(maps[0].shape), np.zeros(maps[0].shape)]
    whole, blank = subject.scores(ends)
    shape = len(maps), steps - 1
    hidden = subject.scores(~mask for masks in firsts for mask in masks).reshape(shape)
    shown = subject.scores(mask for masks in firsts for mask in masks).reshape(shape)
    return [
        Curves(np.array([whole, *falling, blank]), np.array([blank, *rising, whole]))
        for falling, rising in zip(hidden, shown, strict=True)
    ]


def centre_map(cells: int) -> FloatArray:
    """Return a Gaussian spot in the middle: (cells, cells) float32, at most 1."""
    along = (np.arange(cells) + 0.5) / cells - 0.5
    bell = np.exp(-0.5 * (along / _SPREAD) ** 2)
    return np.outer(bell, bell).astype(np.float32)


def random_like(drops: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return a random map of the same shape that is as smooth: its Fourier phases are drawn anew.

    That is a surrogate after Theiler et al. 1992, Physica D 58, section 2.4.1, in two dimensions:
    the autocorrelation stays, what lies where is lost.
    """
    phases = np.fft.fft2(rng.normal(size=drops.shape))
    phases /= np.maximum(np.abs(phases), 1e-12)
    shuffled = np.fft.ifft2(np.abs(np.fft.fft2(drops - drops.mean())) * phases).real
    return np.asarray(shuffled, dtype=np.float32)


def _first_cells(
    drops: FloatArray, steps: int, lots: NDArray[np.int64]
) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of the highest 1/K, 2/K, ... of the cells, short of all of them."""
    order = np.lexsort((lots, -drops.ravel()))
    for step in range(1, steps):
        mask = np.zeros(drops.size, dtype=bool)
        mask[order[: round(drops.size * step / steps)]] = True
        yield mask.reshape(drops.shape)


def _mean(curve: Array) -> float:
    return float(np.trapezoid(curve) / (len(curve) - 1))
