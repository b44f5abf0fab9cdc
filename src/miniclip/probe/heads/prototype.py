"""The nearest class mean: the head of few-shot learning (Snell et al. 2017, with cosines).

It has nothing to choose, so that one image a class is enough; it is also the one to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.probe.heads.gaussian import Space, rooted
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training

COSINE_TO_LOGIT = 20.0


@dataclass(frozen=True)
class PrototypeHead:
    """scores = 20 * cosine of the features and the class's prototype, in the head's space.

    prototypes: (C, F) float32 unit rows. The space's mean is that of the class means, so that the
    sizes of the classes do not count.
    """

    prototypes: FloatArray
    space: Space
    settings: Settings
    kind: str = "prototype"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        cosines = unit_rows(self.space.place(rows.features)) @ self.prototypes.T
        return np.asarray(cosines, dtype=np.float64) * COSINE_TO_LOGIT

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return prototypes, and mean and scale of the space."""
        return {"prototypes": self.prototypes} | self.space.arrays()

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> PrototypeHead:
        """Make the head of its settings and arrays."""
        return cls(np.asarray(arrays["prototypes"], np.float32), Space.load(arrays), settings)


def fit_prototype(training: Training) -> PrototypeHead:
    """Average each class's unit rows."""
    features, labels = training.rows.features, training.labels
    chosen = np.eye(training.classes, dtype=np.float32)[labels]  # (N, C), one-hot
    middle = class_means(rooted(features), chosen)[np.unique(labels)].mean(axis=0)
    space = Space.of(features, training.parts)._replace(mean=middle)
    return PrototypeHead(
        unit_rows(class_means(unit_rows(space.place(features)), chosen)), space, {}
    )


def class_means(rows: FloatArray, chosen: FloatArray) -> FloatArray:
    """(N, F) rows and (N, C) one-hot labels to (C, F) means, 0 for a class without a row."""
    means: FloatArray = (chosen.T @ rows) / np.maximum(chosen.sum(axis=0), 1)[:, None]
    return means
