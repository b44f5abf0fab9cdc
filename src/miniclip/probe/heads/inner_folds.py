"""Inner validation folds and the loss on them, by which a head chooses its hyper-parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.probe.heads.head import Training


def inner_folds(training: Training) -> list[tuple[IntArray, IntArray]]:
    """Split the rows `inner_folds` times into (fitted on, judged on), both sorted row numbers.

    Groups stay whole. Each class's groups are dealt to the folds like cards, so that every fold
    sees every class that has enough of them; a row whose class would be missing from the fitting
    side judges nothing. Empty when no class has two groups: then there is nothing to choose by.
    """
    labels, groups = training.labels, training.groups
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(training.seed).permutation(len(first))
    order = np.lexsort((shuffled, labels[first]))  # by class, within a class at random
    fold_of_group = np.empty(len(first), dtype=np.int64)
    fold_of_group[order] = np.arange(len(first)) % training.settings.inner_folds
    fold_of = fold_of_group[group_of]
    folds = []
    for fold in range(training.settings.inner_folds):
        fitted = fold_of != fold
        known = np.isin(labels, labels[fitted])
        judged = ~fitted & known
        if judged.any():
            folds.append((np.flatnonzero(fitted | ~known), np.flatnonzero(judged)))
    return folds


def held_out_loss(logits: NDArray[Any], labels: IntArray) -> float:
    """Sum over rows of -log softmax at the label, in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - right).sum())
