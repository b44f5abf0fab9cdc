"""Do prediction sets keep their promise on held-out probabilities? 200 splits against exact bands.

    python benchmarks/coverage.py DATA | TABLE.npz [--splits 200] [--method lac aps] [--json]

The held-out images are split at random into halves, again and again: the sets are calibrated on one
half and counted on the other. Two questions, for each method and alpha, both with exact answers
(beta-binomial, Angelopoulos and Bates 2021, appendix C):

mean     lies the mean coverage of all splits in its 99 % band?
splits   lie as many single splits in theirs as 99 % allow for?

DATA is what `miniclip fit` takes: its default head is fitted in 5 folds and calibrated across them.
TABLE has `probabilities` (N, C) and `labels` (N,). Ties between scores can only raise coverage:
where there are any at the quantile, it is said, and only the lower ends count.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from miniclip import MiniClipError, load_encoder
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.errors import StoreError
from miniclip.index.vector_cache import VectorCache
from miniclip.metrics import Interval
from miniclip.probe.calibration import cross_calibrate
from miniclip.probe.conformal import (
    METHODS,
    conformal_quantiles,
    conformity,
    coverage_band,
    prediction_sets,
)
from miniclip.probe.learn import HeadChoice, head_fitter, learn
from miniclip.probe.prepare import prepare
from miniclip.views import PLAIN

ALPHAS = (0.1, 0.05)
Table = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Finding:
    """Coverage over all splits.

    tied: several scores are equal to the quantile, or the sets are made a little too large.
    """

    method: str
    alpha: float
    mean: float
    mean_band: Interval
    split_band: Interval
    inside: int
    inside_at_least: int
    tied: bool
    set_size: float
    holds: bool


def main() -> None:
    """Measure what the command line names; exit 1 when a promise is broken."""
    options = parse()
    try:
        table = read_table(options.table, seed=options.seed)
        findings = [
            measure(table, method, alpha, splits=options.splits, seed=options.seed)
            for method in options.method
            for alpha in ALPHAS
        ]
    except MiniClipError as error:
        sys.exit(f"error: {error}")
    if options.json:
        print(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        print(f"{len(table[1])} images, {options.splits} random halves")
        print("\n".join(map(describe, findings)))
    sys.exit(not all(one.holds for one in findings))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="labelled images, or npz of held-out ones")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", nargs="+", default=["lac", "aps"], choices=METHODS)
    parser.add_argument("--json", action="store_true", help="one JSON list")
    return parser.parse_args()


def read_table(path: Path, *, seed: int) -> Table:
    """Read held-out probabilities (N, C) and labels (N,), or make them from labelled images."""
    if path.suffix != ".npz":
        return held_out(path, seed=seed)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["probabilities"].astype(np.float64), stored["labels"].astype(np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} holds no held-out probabilities ({error!r}); give `probabilities` and `labels`"
        ) from error


def held_out(data: Path, *, seed: int) -> Table:
    """Fit the default head in 5 folds, near-duplicates kept together, and calibrate across them."""
    encoder = load_encoder()
    prepared = prepare(encoder, read_labelled_splits(data), VectorCache.open(), views=(PLAIN,))
    fit = head_fitter(HeadChoice(seed=seed), prepared.classes, encoder)
    learnt = learn(prepared, fit, folds=5, seed=seed)
    labels = prepared.labels[learnt.rows]
    return cross_calibrate(learnt.scores, labels, learnt.fold_of), labels


def measure(table: Table, method: str, alpha: float, *, splits: int, seed: int) -> Finding:
    """Calibrate on one half and count on the other, `splits` times."""
    probabilities, labels = table
    rng = np.random.default_rng(seed)
    coins = rng.random(len(labels))
    own = conformity(probabilities, method, coins)[np.arange(len(labels)), labels]
    half = len(labels) // 2
    covered, sizes, ties = [], [], []
    for _ in range(splits):
        order = rng.permutation(len(labels))
        fit, test = order[:half], order[half:]
        quantile = conformal_quantiles(
            probabilities[fit], labels[fit], alpha, method, coins=coins[fit]
        )
        sets = prediction_sets(probabilities[test], quantile, method, coins=coins[test])
        covered.append(sets[np.arange(len(test)), labels[test]].mean())
        sizes.append(sets.sum(axis=1).mean())
        ties.append((own == quantile).mean() - 1 / len(own))
    # A tie with more than one other image: the sets hold more than the band foresees.
    tied = float(np.mean(ties)) > 1 / len(own) or method.endswith("-whole")
    mean_band, split_band = (
        coverage_band(half, len(labels) - half, alpha, splits=count) for count in (splits, 1)
    )
    highest, highest_mean = (1.0, 1.0) if tied else (split_band.high, mean_band.high)
    inside = sum(bool(split_band.low <= one <= highest) for one in covered)
    # One set of splits in a hundred may have fewer than this inside, by chance.
    enough = int(binom.ppf(0.01, splits, 0.99))
    mean = float(np.mean(covered))
    return Finding(
        method=method,
        alpha=alpha,
        mean=mean,
        mean_band=mean_band,
        split_band=split_band,
        inside=inside,
        inside_at_least=enough,
        tied=tied,
        set_size=float(np.mean(sizes)),
        holds=bool(mean_band.low <= mean <= highest_mean) and inside >= enough,
    )


def describe(one: Finding) -> str:
    """Write a finding for people."""
    tied = "; ties: only the lower ends count" if one.tied else ""
    return (
        f"{one.method:5} alpha {one.alpha:<5} {'holds ' if one.holds else 'BROKEN'} "
        f"mean {one.mean:.4f} in [{one.mean_band.low:.4f}, {one.mean_band.high:.4f}], "
        f"{one.inside} splits (needs {one.inside_at_least}) in "
        f"[{one.split_band.low:.4f}, {one.split_band.high:.4f}], "
        f"{one.set_size:.2f} labels a set{tied}"
    )


if __name__ == "__main__":
    main()
