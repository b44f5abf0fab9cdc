"""Held-out scores against a loop, with a head that remembers what it was shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError
from miniclip.probe.cross_fit import cross_fit, training_rows, view_scores
from miniclip.probe.heads import Rows
from miniclip.probe.heads.head import Scores
from miniclip.probe.splits import Folds


@dataclass(frozen=True)
class Table:
    features: FloatArray
    embeddings: FloatArray


def dealt(fold_of: IntArray) -> Folds:
    return Folds(fold_of, seed=0, kind="naive")


@dataclass(frozen=True)
class Memory:
    """Scores a row by its feature and by how often it was shown that feature."""

    shown: list[float]
    kind: str = "memory"
    settings: dict[str, Any] = field(default_factory=dict)

    def scores(self, rows: Rows) -> Scores:
        seen = [self.shown.count(value) for value in rows.features[:, 0].tolist()]
        return np.column_stack([rows.features[:, 0], seen]).astype(np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}


def numbered(images: int = 10, views: int = 2) -> Table:
    """Image i has the feature i in the first view, 100 + i in the second."""
    first = np.arange(images, dtype=np.float32)[:, None]
    layers = np.stack([first + 100 * view for view in range(views)])
    return Table(layers, np.ones((images, 3), dtype=np.float32))


def remember(rows: Rows, labels: IntArray, groups: IntArray) -> Memory:
    assert len(rows.features) == len(rows.embeddings) == len(labels) == len(groups)
    assert (labels == rows.features[:, 0] % 100 % 2).all()  # rows and labels stay together
    return Memory(rows.features[:, 0].tolist())


def test_each_image_is_scored_once_by_the_head_that_has_not_seen_it() -> None:
    table, labels = numbered(), np.arange(10) % 2
    done: list[int] = []
    result = cross_fit(remember, table, labels, dealt(np.arange(10) % 3), progress=done.append)
    assert result.scores[:, 0] == pytest.approx(np.arange(10) + 50)  # the mean of both views
    assert (result.scores[:, 1] == 0).all()  # never shown
    assert done == [1, 2, 3]
    for fold, head in enumerate(result.heads):
        others = [image for image in range(10) if image % 3 != fold]
        assert isinstance(head, Memory)
        assert sorted(head.shown) == sorted([*others, *(100 + image for image in others)])


def test_the_views_of_an_image_share_its_group() -> None:
    rows, labels, groups = training_rows(
        numbered(4), np.array([0, 1, 0, 1]), np.array([7, 7, 8, 9]), np.array([1, 3])
    )
    assert rows.features[:, 0].tolist() == [1, 3, 101, 103]
    assert labels.tolist() == [1, 1, 1, 1]
    assert groups.tolist() == [7, 9, 7, 9]


def test_without_groups_each_image_is_one_of_its_own() -> None:
    seen: list[list[int]] = []

    def fit(rows: Rows, labels: IntArray, groups: IntArray) -> Memory:
        seen.append(groups.tolist())
        return remember(rows, labels, groups)

    cross_fit(fit, numbered(4), np.arange(4) % 2, dealt(np.array([0, 0, 1, 1])))
    assert seen == [[2, 3, 2, 3], [0, 1, 0, 1]]


def test_scores_are_averaged_over_views() -> None:
    head = Memory([1.0, 102.0])
    assert view_scores(head, numbered(3))[:, 1].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("fold_of", [[0, 0, 0], [0, 2, 2], []])
def test_too_few_folds_are_refused(fold_of: list[int]) -> None:
    with pytest.raises(ConfigError, match="at least two"):
        cross_fit(
            remember,
            numbered(len(fold_of)),
            np.zeros(len(fold_of), dtype=np.int64),
            dealt(np.array(fold_of, dtype=np.int64)),
        )
