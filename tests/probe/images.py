"""Made-up rows of a feature table, for tests of what reads tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import unit_rows
from miniclip.probe.facts import ImageFacts
from miniclip.probe.table import FeatureTable


def make_facts(**known: Any) -> ImageFacts:
    """Return the facts of an ordinary JPEG, but for what is known."""
    usual: dict[str, Any] = {
        "width": 64, "height": 48, "mode": "RGB", "file_format": "JPEG", "bytes": 5000,
        "jpeg_tables": "aa", "perceptual_hash": 0, "border": (0.5,) * 12,
    }  # fmt: skip
    return ImageFacts(**usual | known)


def make_table(
    features: NDArray[Any],
    facts: Sequence[ImageFacts] | None = None,
    contents: Sequence[str] | None = None,
) -> FeatureTable:
    """Return a table of N images with one view: features (N, F); contents differ unless given."""
    count = len(features)
    rows = np.asarray(features, dtype=np.float32)
    names = tuple(f"{row}.jpg" for row in range(count))
    return FeatureTable(
        names=names,
        paths=tuple(map(Path, names)),
        contents=tuple(contents or (f"{row:064x}" for row in range(count))),
        features=rows[None],
        embeddings=unit_rows(rows),
        facts=tuple(facts or [make_facts()] * count),
    )
