"""The head without images: label names as prompts. It learns nothing; the labels are not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training


@dataclass(frozen=True)
class ZeroShotHead:
    """scores = logit_scale * cosine of embedding and prompt (Radford et al. 2021, section 3.1.4).

    prompts: (C, D) float32 unit rows. settings: `logit_scale`.
    """

    prompts: FloatArray
    settings: Settings
    kind: str = "zeroshot"

    def scores(self, rows: Rows) -> Scores:
        """(N, D) unit embeddings to (N, C) float64 logits."""
        cosines = rows.embeddings @ self.prompts.T
        return np.asarray(cosines * self.settings["logit_scale"], dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the prompts."""
        return {"prompts": self.prompts}

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> ZeroShotHead:
        """Make the head of its settings and arrays."""
        return cls(np.asarray(arrays["prompts"], np.float32), settings)


def fit_zeroshot(training: Training) -> ZeroShotHead:
    """Keep the prompts."""
    assert training.prompts is not None  # `fit_head` has looked
    return ZeroShotHead(
        np.asarray(training.prompts, np.float32), {"logit_scale": float(training.logit_scale)}
    )
