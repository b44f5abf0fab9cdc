"""Folds: which images are held out together. Groups stay whole; nothing is fitted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError, DatasetError


@dataclass(frozen=True)
class Folds:
    """A partition of N images into k folds.

    fold_of: (N,) int64 in [0, k), each fold with at least one image. kind: "grouped" where groups
    were kept whole, "naive" where each image went its own way. warning: when there are fewer folds
    than asked for, and why.
    """

    fold_of: IntArray
    seed: int
    kind: Literal["grouped", "naive"]
    warning: str | None = None

    @property
    def count(self) -> int:
        """How many folds: k."""
        return int(self.fold_of.max()) + 1


def make_folds(
    labels: IntArray,
    groups: IntArray | None,
    *,
    folds: int,
    seed: int,
    classes: Sequence[str] | None = None,
) -> Folds:
    """Deal images to folds so that each holds its share of every class, and no group straddles.

    labels: (N,) integers. groups: (N,) integers, equal for images that belong together; None: each
    image alone. classes: their names, for messages. Largest groups go first, each to the fold where
    its classes are scarcest, so a class of at least k groups of its own is in every fold; equal
    seeds deal equally. scikit-learn's StratifiedGroupKFold has the same aim and takes a second for
    a thousand groups. A class of fewer groups than folds makes fewer folds, with a warning; one of
    a single group cannot be both learned and judged: DatasetError. ConfigError for fewer than 2
    folds.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}; give at least 2")
    _, class_of = np.unique(labels, return_inverse=True)
    _, group_of = np.unique(
        np.arange(len(labels)) if groups is None else groups, return_inverse=True
    )
    held = np.zeros((group_of.max(initial=-1) + 1, class_of.max(initial=-1) + 1))
    np.add.at(held, (group_of, class_of), 1)
    count, warning = _feasible(held, labels, folds, classes)
    fold_of = _deal(held, count, np.random.default_rng(seed))[group_of]
    return Folds(fold_of, seed, "naive" if groups is None else "grouped", warning)


def _feasible(
    held: NDArray[np.float64], labels: IntArray, folds: int, classes: Sequence[str] | None
) -> tuple[int, str | None]:
    """Return how many folds the smallest class allows, and what to say if that is fewer."""
    groups_of_class = (held > 0).sum(axis=0)
    scarce = int(groups_of_class.argmin()) if groups_of_class.size else 0
    least = int(groups_of_class.min(initial=folds))
    if least >= folds:
        return folds, None
    number = int(np.unique(labels)[scarce])
    name = classes[number] if classes else f"number {number}"
    images = int(held[:, scarce].sum())
    if least < 2:
        raise DatasetError(
            f"the class {name} has {images} image(s), all in one group, so they cannot be both "
            "learned and judged; add images of another source, or leave the class out"
        )
    return least, (
        f"{least} folds instead of {folds}: the class {name} has {images} images in only {least} "
        "groups"
    )


def _deal(held: NDArray[np.float64], folds: int, rng: np.random.Generator) -> IntArray:
    """Return the fold of each group; held (G, C) counts the images of each class in each group.

    The cost of a fold is the growth of sum over classes of (count - share)^2 / share, less what is
    the same for all folds.
    """
    sizes = held.sum(axis=1)
    order = np.lexsort((rng.permutation(len(held)), -sizes))
    weights = held / held.sum(axis=0)
    dealt = np.zeros((folds, held.shape[1]))
    fold_of = np.zeros(len(held), dtype=np.int64)
    for group in order:
        costs = dealt @ weights[group]
        # Among equals the smallest fold, so that the folds of many small classes are as large.
        fold = int(np.lexsort((dealt.sum(axis=1), costs))[0])
        fold_of[group] = fold
        dealt[fold] += held[group]
    return fold_of
