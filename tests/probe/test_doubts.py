"""Doubts against the definition of the paper, one image at a time, and against planted mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from miniclip.errors import ConfigError
from miniclip.probe.calibration import softmax
from miniclip.probe.doubts import label_doubts, next_to_label


def naive_doubts(probabilities: list[list[float]], labels: list[int]) -> list[int]:
    """Northcutt et al. 2021, equation 1, spelled out."""
    classes = range(len(probabilities[0]))
    threshold = {}
    for c in classes:
        own = [row[c] for row, label in zip(probabilities, labels, strict=True) if label == c]
        threshold[c] = np.mean(own) if own else np.inf
    found = []
    for image, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        confident = [c for c in classes if row[c] >= threshold[c]]
        if not confident:
            continue
        counted_as = max(confident, key=lambda c: row[c])
        likeliest = max(classes, key=lambda c: row[c])
        if label not in (counted_as, likeliest):
            found.append((row[label] - max(row), image))
    return [image for _, image in sorted(found)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 30), st.integers(2, 5))
def test_doubts_are_those_of_the_definition(seed: int, images: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), size=images)
    labels = rng.integers(classes, size=images)
    expected = naive_doubts(probabilities.tolist(), labels.tolist())
    assert label_doubts(probabilities, labels).tolist() == expected


def test_doubts_are_planted_mistakes_and_hardly_anything_else() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=1000)
    scores = rng.normal(size=(1000, 4))
    scores[np.arange(1000), truth] += 5
    labels, planted = truth.copy(), rng.choice(1000, size=30, replace=False)
    labels[planted] = (labels[planted] + 1) % 4
    found = set(label_doubts(softmax(scores), labels).tolist())
    assert len(found & set(planted.tolist())) >= 24
    assert len(found - set(planted.tolist())) <= 2
    assert label_doubts(softmax(scores * 9), truth).size < 5


def pool() -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Two doubtful images that look alike, one that looks otherwise, and three sure ones."""
    probabilities = np.array([[0.5, 0.5], [0.51, 0.49], [0.6, 0.4], [1, 0], [1, 0], [0, 1]])
    features = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]])
    return probabilities, features.astype(np.float32)


def test_label_next_what_is_doubtful_and_new() -> None:
    assert next_to_label(*pool(), count=2).tolist() == [0, 2]


def test_sure_images_and_copies_teach_nothing() -> None:
    assert set(next_to_label(*pool()).tolist()) == {0, 1, 2}
    probabilities, features = pool()
    copies = np.repeat(features[:1], 6, axis=0)
    assert next_to_label(np.full((6, 2), 0.5), copies).tolist() == [0]
    assert next_to_label(probabilities[:0], features[:0]).tolist() == []


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 rows of probabilities and 3 labels"):
        label_doubts(np.ones((2, 2)), np.zeros(3, int))
    with pytest.raises(ConfigError, match="2 rows of probabilities and 3 of features"):
        next_to_label(np.ones((2, 2)), np.ones((3, 4)))
