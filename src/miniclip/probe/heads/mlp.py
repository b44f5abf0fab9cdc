"""The perceptron head in numpy: standardise, linear, ReLU, linear. Its training needs torch.

Dropout does nothing after training, and batch normalisation is folded into the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings

_PARTS = ("mean", "scale", "w1", "b1", "w2", "b2")


@dataclass(frozen=True)
class MlpHead:
    """scores = relu(((x - mean) / scale) @ w1 + b1) @ w2 + b2, on the features.

    mean, scale: (F,) float32. w1: (F, H). b1: (H,). w2: (H, C). b2: (C,). All float32.
    """

    mean: FloatArray
    scale: FloatArray
    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray
    settings: Settings = field(default_factory=dict)
    kind: str = "mlp"

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together: ValueError."""
        (features, hidden), (_, classes) = self.w1.shape, self.w2.shape
        shapes = ((features,), (features,), (features, hidden), (hidden,), (hidden, classes))
        for name, shape in zip(_PARTS, (*shapes, (classes,)), strict=True):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, not {shape}")

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        hidden = ((rows.features - self.mean) / self.scale) @ self.w1 + self.b1
        logits = np.maximum(hidden, 0) @ self.w2 + self.b2
        return np.asarray(logits, dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the six arrays by name."""
        return {name: getattr(self, name) for name in _PARTS}

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> MlpHead:
        """Make the head of its settings and arrays."""
        parts = {name: np.asarray(arrays[name], np.float32) for name in _PARTS}
        return cls(**parts, settings=settings, kind="mlp")
