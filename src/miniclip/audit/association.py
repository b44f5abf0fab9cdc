"""What a model associates: whether some words or images lie nearer to others than to third ones.

The test of Caliskan et al. (2017), "Semantics derived automatically from language corpora contain
human-like biases", for words; with images on either side that of Steed and Caliskan (2021), "Image
representations learned with unsupervised pre-training contain human-like biases" (iEAT), and, with
words against images in one space, that of Ross, Katz and Barbu (2021), "Measuring social biases in
grounded vision and language embeddings". It says what a model associates, never why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError
from miniclip.probe.results import to_json

EXACT = 50_000  # partitions up to which all are tried
DRAWN = 9_999
FEWEST = 2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """Two target sets X and Y against two attribute sets A and B.

    effect: d, in standard deviations, from -2 to 2; above 0, X lies nearer to A, and Y to B, than
    the other way round. p: share of equal partitions of all targets that set X as far on the side
    of A or farther (one-sided, as in the papers); p_two_sided: as far on either side. exact: all
    partitions were tried. per_target: mean cosine to A less that to B of each target.
    """

    x: str
    y: str
    a: str
    b: str
    sizes: tuple[int, int, int, int]
    effect: float
    p: float
    p_two_sided: float
    exact: bool
    partitions: int
    per_target: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip audit bias --json` prints."""
        return {entry.name: to_json(getattr(self, entry.name)) for entry in fields(self)}

    def __str__(self) -> str:
        side = f"{self.x} to {self.a} and {self.y} to {self.b}"
        other = f"{self.x} to {self.b} and {self.y} to {self.a}"
        how = "exact" if self.exact else f"{self.partitions:,} random partitions"
        return (
            f"nearer: {side if self.effect >= 0 else other}; effect d = {self.effect:+.2f}, "
            f"p = {self.p:.3g} one-sided, {self.p_two_sided:.3g} two-sided ({how})"
        )


@dataclass(frozen=True)
class NamedSet:
    """Words or images with their vectors: name of the set, N item names, (N, D) unit rows."""

    name: str
    items: tuple[str, ...]
    rows: FloatArray


def associate(x: NamedSet, y: NamedSet, a: NamedSet, b: NamedSet, *, seed: int = 0) -> Association:
    """Test whether X and Y differ in how they lie to A and B.

    s(w, A, B) = mean cos(w, A) - mean cos(w, B); the statistic is the sum of s over X less that
    over Y, the effect d the difference of the means over the standard deviation of all (n - 1).
    Targets are partitioned into sets of the sizes of X and Y: all ways if there are at most 50,000,
    else 9,999 at random and the given one. ConfigError for a set of fewer than 2.
    """
    for one in (x, y, a, b):
        if len(one.items) < FEWEST:
            raise ConfigError(f"the set {one.name} has {len(one.items)} members; give at least 2")
    targets = np.concatenate([x.rows, y.rows]).astype(np.float64)
    s = (targets @ a.rows.T.astype(np.float64)).mean(axis=1) - (
        targets @ b.rows.T.astype(np.float64)
    ).mean(axis=1)
    count = len(x.items)
    spread = float(s.std(ddof=1))
    gap = float(s[:count].mean() - s[count:].mean())
    # Of all partitions the mean of Y follows from that of X: compare the sums over X alone.
    sums = _sums(s, count, seed)
    own, middle, tie = float(s[:count].sum()), count * float(s.mean()), 1e-9
    return Association(
        x=x.name,
        y=y.name,
        a=a.name,
        b=b.name,
        sizes=(count, len(y.items), len(a.items), len(b.items)),
        effect=gap / spread if spread > 0 else 0.0,
        p=float((sums >= own - tie).mean()),
        p_two_sided=float((np.abs(sums - middle) >= abs(own - middle) - tie).mean()),
        exact=comb(len(s), count) <= EXACT,
        partitions=len(sums),
        per_target=dict(zip((*x.items, *y.items), s.tolist(), strict=True)),
    )


def _sums(s: Array, count: int, seed: int) -> Array:
    """Sum s over the first part of each partition, the given one among them."""
    if comb(len(s), count) <= EXACT:
        return np.array([s[list(rows)].sum() for rows in combinations(range(len(s)), count)])
    rng = np.random.default_rng(seed)
    drawn = [s[rng.permutation(len(s))[:count]].sum() for _ in range(DRAWN)]
    return np.array([s[:count].sum(), *drawn])
