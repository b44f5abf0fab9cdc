"""Held-out scores: each image is judged by a head that has not seen it, nor a copy of it.

Which images form a fold, and what the scores are worth, is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError
from miniclip.probe.heads.head import Head, Rows, Scores
from miniclip.probe.splits import Folds

# rows, labels (N,), groups (N,) -> head: how the caller fits, with its settings inside.
FitHead = Callable[[Rows, IntArray, IntArray], Head]


class ViewedRows(Protocol):
    """N images seen in V views, such as a `FeatureTable`."""

    @property
    def features(self) -> FloatArray:
        """(V, N, F) float32."""

    @property
    def embeddings(self) -> FloatArray:
        """(N, D) float32 unit rows of the plain view."""


@dataclass(frozen=True)
class CrossFit:
    """What heads say about images that they were not fitted on.

    scores: (N, C) float64 logits, not calibrated; row i comes from heads[fold_of[i]]. heads: none
    where nobody wanted them kept.
    """

    scores: Scores
    fold_of: IntArray
    heads: tuple[Head, ...]


def cross_fit(
    fit: FitHead,
    table: ViewedRows,
    labels: IntArray,
    folds: Folds,
    *,
    groups: IntArray | None = None,
    keep_heads: bool = True,
    progress: Callable[[int], None] | None = None,
) -> CrossFit:
    """Fit one head per fold on the other folds, and score the fold with it.

    labels: (N,) integers. groups: (N,) integers, equal for images that the inner folds of a head
    must keep together; None: each by itself. keep_heads: they may be as large as the images' own
    features. progress is called with the number of folds done. Raises ConfigError for fewer
    than two folds.
    """
    fold_of = folds.fold_of
    count = int(fold_of.max()) + 1 if len(fold_of) else 0
    if count < 2 or len(np.unique(fold_of)) < count:
        raise ConfigError(f"{count} folds, some of them empty; give at least two with images each")
    own = np.arange(len(labels)) if groups is None else groups
    heads: list[Head] = []
    parts: list[Scores] = []
    for fold in range(count):
        head = fit(*training_rows(table, labels, own, np.flatnonzero(fold_of != fold)))
        parts.append(view_scores(head, table, np.flatnonzero(fold_of == fold)))
        if keep_heads:
            heads.append(head)
        if progress:
            progress(fold + 1)
    scores = np.empty((len(labels), parts[0].shape[1]), dtype=np.float64)
    for fold, part in enumerate(parts):
        scores[fold_of == fold] = part
    return CrossFit(scores, fold_of, tuple(heads))


def training_rows(
    table: ViewedRows, labels: IntArray, groups: IntArray, index: IntArray
) -> tuple[Rows, IntArray, IntArray]:
    """Stack the views of the images at `index`, (M,): V * M rows, labels and groups.

    Each view of an image is a row of its own with the image's label, embedding and group, so
    `groups` must tell images apart that are not copies.
    """
    views = len(table.features)
    features = table.features[:, index]
    return (
        Rows(
            features.reshape(-1, features.shape[-1]), np.tile(table.embeddings[index], (views, 1))
        ),
        np.tile(labels[index], views),
        np.tile(groups[index], views),
    )


def view_scores(head: Head, table: ViewedRows, index: NDArray[Any] | None = None) -> Scores:
    """Average the head's logits over the views: (M, C) float64 for the M images at `index`."""
    chosen = slice(None) if index is None else index
    embeddings = table.embeddings[chosen]
    views = [head.scores(Rows(view[chosen], embeddings)) for view in table.features]
    mean: Scores = np.mean(views, axis=0)
    return mean
