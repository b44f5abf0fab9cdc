"""The linear head: one weight per feature and class. What `logistic` and fine-tuning give back.

It fits nothing and needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings

_PARTS = ("weights", "bias", "mean", "scale")


@dataclass(frozen=True)
class LinearHead:
    """scores = ((x - mean) / scale) @ weights + bias, on the features.

    weights: (F, C) float32. bias: (C,) float32. mean, scale: (F,) float32, scale above 0.
    """

    weights: FloatArray
    bias: FloatArray
    mean: FloatArray
    scale: FloatArray
    settings: Settings = field(default_factory=dict)
    kind: str = "linear"

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together: ValueError."""
        features, classes = self.weights.shape
        for name, shape in (("bias", (classes,)), ("mean", (features,)), ("scale", (features,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, not {shape}")

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        logits = ((rows.features - self.mean) / self.scale) @ self.weights + self.bias
        return np.asarray(logits, dtype=np.float64)

    def widened(self, features: int) -> LinearHead:
        """Return the same head for rows of so many features, of which it reads its own, the first.

        features: at least F.
        """
        more = features - len(self.weights)
        return replace(
            self,
            weights=np.pad(self.weights, ((0, more), (0, 0))),
            mean=np.pad(self.mean, (0, more)),
            scale=np.pad(self.scale, (0, more), constant_values=1),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the four arrays by name."""
        return {name: getattr(self, name) for name in _PARTS}

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays, *, kind: str = "linear") -> LinearHead:
        """Make the head again; `kind` is the name under which it was fitted."""
        parts = {name: np.asarray(arrays[name], np.float32) for name in _PARTS}
        return cls(**parts, settings=settings, kind=kind)


def load_logistic(settings: Settings, arrays: Arrays) -> LinearHead:
    """Make the head of `logistic.fit_logistic` again, without scikit-learn."""
    return LinearHead.load(settings, arrays, kind="logistic")


def spread_of(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column, (F,) float32 each; 1 for a constant column."""
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    # A column that varies only by rounding would be blown up to the size of the others.
    constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)
