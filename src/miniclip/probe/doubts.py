"""Which labels to look at again, and which images to label next.

Confident learning (Northcutt, Jiang and Chuang 2021) from held-out probabilities, and a choice of
uncertain images that do not look alike. It changes no label and moves no file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray, unit_rows
from miniclip.errors import ConfigError

Array = NDArray[np.float64]


def label_doubts(probabilities: Array, labels: IntArray) -> IntArray:
    """Find the images whose label is confidently disputed: row numbers (M,) int64, worst first.

    probabilities: (N, C) of heads that have not seen the image. labels: (N,) integers in [0, C).
    An image counts as of class j when its probability of j is at least what images labelled j get
    on average, and is the largest of those that are; it is doubtful when that class is not its
    label (the off-diagonal of the confident joint, Northcutt et al. 2021, equation 1) and the label
    is not its most likely class either. Worst first: by how far the label's probability lies
    below the largest one.
    """
    if len(probabilities) != len(labels):
        raise ConfigError(
            f"{len(probabilities)} rows of probabilities and {len(labels)} labels; "
            "give one each per image"
        )
    labels = np.asarray(labels, np.int64)
    rows = np.arange(len(labels))
    # What a class expects of its images; no image, no expectation that any could meet.
    expected = np.full(probabilities.shape[1], np.inf)
    for c in np.unique(labels):
        expected[c] = probabilities[labels == c, c].mean()
    confident = np.where(probabilities >= expected, probabilities, -1.0)
    counted = (confident >= 0).any(axis=1)
    disputed = counted & (confident.argmax(axis=1) != labels)
    disputed &= probabilities.argmax(axis=1) != labels
    margin = probabilities[rows, labels] - probabilities.max(axis=1)
    worst = np.argsort(margin, kind="stable")
    doubtful: IntArray = worst[disputed[worst]]
    return doubtful


def next_to_label(probabilities: Array, features: NDArray[Any], count: int = 20) -> IntArray:
    """Choose images whose labels would teach most: row numbers, at most `count`, best first.

    probabilities: (N, C). features: (N, F). Greedy: the image with the largest product of doubt,
    one minus the margin of its two likeliest classes (Scheffer, Decomain and Wrobel 2001), and
    distance, one minus its cosine to the nearest image chosen already (in the manner of the core
    sets of Sener and Savarese 2018). So of two copies only one is chosen.
    """
    if len(probabilities) != len(features):
        raise ConfigError(
            f"{len(probabilities)} rows of probabilities and {len(features)} of features; "
            "give one each per image"
        )
    likeliest = np.sort(probabilities, axis=1)
    worth = 1 - (likeliest[:, -1] - likeliest[:, -2])
    rows = unit_rows(features)
    distance = np.ones(len(rows))
    chosen: list[int] = []
    while len(chosen) < min(count, len(rows)):
        best = int(np.argmax(worth * distance))
        if worth[best] * distance[best] <= 0:
            break
        chosen.append(best)
        distance = np.minimum(distance, np.maximum(1.0 - rows @ rows[best], 0.0))
        distance[best] = 0.0
    return np.array(chosen, dtype=np.int64)
