"""Could chance alone have set the subgroups this far apart? A permutation test, and Holm.

It knows rates and subgroups, no classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miniclip.audit.rates import Array, Cells, estimate

PERMUTATIONS = 1999
_BLOCK_CELLS = 1 << 20  # cells that are dealt out anew at a time


def homogeneity_p(
    cells: Cells,
    subgroups: int,
    families: Sequence[NDArray[np.int64]],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> list[float]:
    """Test for each family of rates whether they are equal in all subgroups: a p for each.

    families: numbers of the rates of each; a family stands out by its most uneven rate. Cells are
    dealt to the subgroups at random, again and again, and p is the share of these deals, the true
    one among them, that look at least as uneven (Phipson and Smyth 2010): exact if the subgroup has
    nothing to do with anything. Unevenness is studentised, each difference against its own cluster
    robust variance, so that the test stays right in large samples when subgroups differ in size,
    spread or clusters and the rate alone is equal (Chung and Romano 2013).
    """
    observed = _unevenness(_totals(cells, cells.subgroup[None], subgroups))[0]
    rng = np.random.default_rng(seed)
    as_uneven = np.ones(len(families))
    step = max(1, _BLOCK_CELLS // len(cells.subgroup))
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        dealt = rng.permuted(np.tile(cells.subgroup, (count, 1)), axis=1)
        uneven = _unevenness(_totals(cells, dealt, subgroups))
        for number, family in enumerate(families):
            # Sums in another order differ in their last digits; a tie counts against an alarm.
            reached = uneven[:, family].max(axis=1) >= observed[family].max() - 1e-9
            as_uneven[number] += reached.sum()
    return [float(count) / (permutations + 1) for count in as_uneven]


def _totals(cells: Cells, dealt: NDArray[np.int64], subgroups: int) -> Array:
    """Sum cells by subgroup in each deal: (r, U) -> (r, G, K, 6)."""
    deals, count = dealt.shape
    rows = (dealt + np.arange(deals)[:, None] * subgroups).ravel()
    columns = np.tile(np.arange(count), deals)
    hands = csr_array((np.ones(len(rows)), (rows, columns)), (deals * subgroups, count))
    totals: Array = hands @ cells.sums.reshape(count, -1)
    return totals.reshape(deals, subgroups, *cells.sums.shape[1:])


def _unevenness(totals: Array) -> Array:
    """Weigh the squared distances of subgroups from their mean: (r, G, K, 6) -> (r, K).

    Their sum is about chi-square; the cube root of Wilson and Hilferty (1931) puts rates that
    different numbers of subgroups have on one scale, that of a normal.
    """
    found = estimate(totals)
    there = np.isfinite(found.value) & (found.steady > 0)
    weight = np.divide(1.0, found.steady, out=np.zeros_like(found.steady), where=there)
    value = np.where(there, found.value, 0.0)
    whole = np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    centre = (weight * value).sum(axis=1, keepdims=True) / whole
    squares = (weight * (value - centre) ** 2).sum(axis=1)
    freedom = np.maximum(there.sum(axis=1) - 1, 1)
    spread = 2 / (9 * freedom)
    uneven: Array = (np.cbrt(squares / freedom) - 1 + spread) / np.sqrt(spread)
    return uneven
