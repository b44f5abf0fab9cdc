"""The nearest class mean: the head of few-shot learning (Snell et al. 2017, with cosines).

It has nothing to choose, so that one image a class is enough; it is also the one to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.probe.heads.gaussian import rooted
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training

COSINE_TO_LOGIT = 20.0


@dataclass(frozen=True)
class PrototypeHead:
    """scores = 20 * cosine of (root(x) - mean) and the class's prototype, on the features.

    prototypes: (C, F) float32 unit rows. mean: (F,) float32, of all training rows.
    """

    prototypes: FloatArray
    mean: FloatArray
    settings: Settings
    kind: str = "prototype"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        cosines = unit_rows(rooted(rows.features) - self.mean) @ self.prototypes.T
        return np.asarray(cosines, dtype=np.float64) * COSINE_TO_LOGIT

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return prototypes and mean."""
        return {"prototypes": self.prototypes, "mean": self.mean}

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> PrototypeHead:
        """Make the head of its settings and arrays."""
        return cls(
            np.asarray(arrays["prototypes"], np.float32),
            np.asarray(arrays["mean"], np.float32),
            settings,
        )


def fit_prototype(training: Training) -> PrototypeHead:
    """Average each class's unit rows; the mean is that of the class means, so sizes don't count."""
    features, labels = rooted(training.rows.features), training.labels
    chosen = np.eye(training.classes, dtype=np.float32)[labels]  # (N, C), one-hot
    mean = class_means(features, chosen).mean(axis=0)
    return PrototypeHead(unit_rows(class_means(unit_rows(features - mean), chosen)), mean, {})


def class_means(rows: FloatArray, chosen: FloatArray) -> FloatArray:
    """(N, F) rows and (N, C) one-hot labels to (C, F) means."""
    means: FloatArray = (chosen.T @ rows) / chosen.sum(axis=0)[:, None]
    return means
