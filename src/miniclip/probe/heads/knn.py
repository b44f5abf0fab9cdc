"""The nearest neighbours vote, weighted by their cosines; K chosen by leaving images out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.probe.heads.gaussian import Space
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training
from miniclip.probe.heads.inner_folds import held_out_loss

NEIGHBOURS = (1, 3, 5, 10, 20, 40)
UNCHOSEN = 1  # where nothing can be left out
CHOOSING_ROWS = 4000  # rows that are left out, at most
_SHARPNESS = 10.0  # a neighbour that is nearer by a cosine of 0.1 counts e times as much
_BLOCK = 1024  # query rows at a time


@dataclass(frozen=True)
class KnnHead:
    """scores = log of each class's share of the vote of the K nearest, in the head's space.

    The nearest has one vote, the others exp(10 * (cosine - the nearest's)); one vote more is spread
    evenly over the classes. rows: (M, F) float16, unit rows in the head's space. labels: (M,)
    int64. settings: `neighbours`, `classes`.
    """

    rows: NDArray[np.float16]
    labels: IntArray
    space: Space
    settings: Settings
    kind: str = "knn"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        known = self.rows.astype(np.float32).T
        scores = np.empty((len(rows.features), self.settings["classes"]))
        for start in range(0, len(scores), _BLOCK):
            block = slice(start, start + _BLOCK)
            cosines = unit_rows(self.space.place(rows.features[block])) @ known
            scores[block] = votes(cosines, self.labels, **self.settings_of_votes)
        return scores

    @property
    def settings_of_votes(self) -> dict[str, int]:
        """What `votes` needs to know."""
        return {name: int(self.settings[name]) for name in ("neighbours", "classes")}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return rows, labels, and mean and scale of the space."""
        return {"rows": self.rows, "labels": self.labels, **self.space.arrays()}

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> KnnHead:
        """Make the head of its settings and arrays."""
        return cls(
            rows=np.asarray(arrays["rows"], np.float16),
            labels=np.asarray(arrays["labels"], np.int64),
            space=Space.load(arrays),
            settings=settings,
        )


def fit_knn(training: Training) -> KnnHead:
    """Keep the rows, and choose K by the loss on rows left out with their groups."""
    space = Space.of(training.rows.features, training.parts)
    rows = unit_rows(space.place(training.rows.features)).astype(np.float16)
    neighbours, losses = training.settings.neighbours, {}
    if neighbours is None:
        losses = losses_by_neighbours(rows.astype(np.float32), training)
        neighbours = int(min(losses, key=lambda tried: losses[tried])) if losses else UNCHOSEN
    settings = {"neighbours": neighbours, "classes": training.classes, "left_out_loss": losses}
    return KnnHead(rows, training.labels, space, settings)


def losses_by_neighbours(rows: FloatArray, training: Training) -> dict[str, float]:
    """Mean loss in nats of each K, over rows that do not see their own group; {} with one group."""
    groups, labels = training.groups, training.labels
    asked = np.random.default_rng(training.seed).permutation(len(rows))[:CHOOSING_ROWS]
    tried = [k for k in NEIGHBOURS if k <= len(np.unique(groups)) - 1]
    totals = dict.fromkeys(tried, 0.0)
    for start in range(0, len(asked), _BLOCK):
        block = asked[start : start + _BLOCK]
        cosines = rows[block] @ rows.T
        cosines[groups[block][:, None] == groups] = -np.inf
        for k in tried:
            said = votes(cosines, labels, neighbours=k, classes=training.classes)
            totals[k] += held_out_loss(said, labels[block])
    return {str(k): total / len(asked) for k, total in totals.items()}


def votes(cosines: FloatArray, labels: IntArray, *, neighbours: int, classes: int) -> Scores:
    """(N, M) cosines with M known rows, -inf for one that may not vote, to (N, C) log shares."""
    count = min(neighbours, cosines.shape[1])
    nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    near = np.take_along_axis(cosines, nearest, axis=1).astype(np.float64)
    weights = np.exp(_SHARPNESS * (near - near.max(axis=1, keepdims=True)))
    shares = np.full((len(cosines), classes), 1 / classes)
    np.add.at(shares, (np.arange(len(cosines))[:, None], labels[nearest]), weights)
    return np.asarray(np.log(shares / shares.sum(axis=1, keepdims=True)))
