"""Inner folds: groups whole, classes spread, nothing judged that could not be known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from miniclip.arrays import IntArray
from miniclip.probe.heads.head import HeadSettings, Rows, Training
from miniclip.probe.heads.inner_folds import inner_folds


def training_of(labels: list[int], groups: list[int], folds: int = 5) -> Training:
    nothing = np.zeros((len(labels), 1), dtype=np.float32)
    return Training(
        Rows(nothing, nothing),
        np.array(labels, dtype=np.int64),
        max(labels) + 1,
        np.array(groups, dtype=np.int64),
        settings=HeadSettings(inner_folds=folds),
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1), st.integers(2, 6))
def test_no_group_stands_on_both_sides(rows: list[tuple[int, int]], folds: int) -> None:
    label_of_group = {group: label for label, group in rows}
    groups = np.array([group for _, group in rows])
    labels: IntArray = np.array([label_of_group[group] for group in groups.tolist()])
    for fitted, judged in inner_folds(training_of(labels.tolist(), groups.tolist(), folds)):
        assert sorted([*fitted, *judged]) == list(range(len(rows)))
        assert not set(groups[fitted]) & set(groups[judged])
        assert set(labels[judged]) <= set(labels[fitted])


def test_each_image_is_judged_once_and_classes_are_spread_evenly() -> None:
    labels = [0] * 50 + [1] * 20 + [2] * 7
    folds = inner_folds(training_of(labels, list(range(77))))
    judged = np.concatenate([judged for _, judged in folds])
    assert sorted(judged.tolist()) == list(range(77))
    for _, rows in folds:
        counts = np.bincount(np.array(labels)[rows], minlength=3)
        assert counts[:2].tolist() == [10, 4]
        assert counts[2] in (1, 2)


def test_one_image_a_class_leaves_nothing_to_judge() -> None:
    assert inner_folds(training_of([0, 1, 2], [0, 1, 2])) == []


def test_the_only_image_of_a_class_is_always_fitted_on() -> None:
    folds = inner_folds(training_of([0] * 10 + [1], list(range(11))))
    assert all(10 in fitted for fitted, _ in folds)
