"""Made-up answers of a classifier with a known gap between subgroups."""

from __future__ import annotations

import numpy as np

from miniclip.arrays import IntArray
from miniclip.audit.answers import Answers


def made_up(
    images: int,
    accuracies: tuple[float, ...],
    *,
    classes: int = 2,
    seed: int = 0,
    cluster: int = 1,
) -> tuple[Answers, IntArray]:
    """Answers that are right as often as their subgroup's accuracy, and the subgroups (N,).

    cluster: how many images in a row share their subgroup and their luck.
    """
    rng = np.random.default_rng(seed)
    of = np.arange(images) // cluster
    subgroup = rng.integers(len(accuracies), size=images)[of]
    labels = rng.integers(classes, size=images)
    right = rng.random(images)[of] < np.array(accuracies)[subgroup]
    wrong = (labels + rng.integers(1, classes, size=images)) % classes
    answers = Answers(
        classes=tuple("abcdefgh"[:classes]),
        labels=labels.astype(np.int64),
        predicted=np.where(right, labels, wrong).astype(np.int64),
        confidence=np.full(images, 0.9),
        cluster=of.astype(np.int64),
        covered=right,
        automatic=rng.random(images) < 0.5,
        names=tuple(f"{row}.jpg" for row in range(images)),
    )
    return answers, subgroup.astype(np.int64)
