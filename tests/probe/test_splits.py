"""Folds hold their share of every class, and nothing that belongs together is torn apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError, DatasetError
from miniclip.probe.splits import Folds, make_folds


def class_counts(folds: Folds, labels: IntArray) -> IntArray:
    """(k, C): images of each class in each fold."""
    return np.array([np.bincount(labels[folds.fold_of == fold]) for fold in range(folds.count)])


def test_without_groups_folds_are_as_even_as_stratified_ones() -> None:
    labels = np.random.default_rng(0).choice(4, size=203, p=[0.5, 0.3, 0.15, 0.05])
    folds = make_folds(labels, None, folds=5, seed=1)
    counts = class_counts(folds, labels)
    parts = StratifiedKFold(5).split(labels, labels)
    oracle = np.array([np.bincount(labels[held_out]) for _, held_out in parts])
    np.testing.assert_array_equal(np.sort(counts, axis=0), np.sort(oracle, axis=0))
    assert np.ptp(counts.sum(axis=1)) <= np.ptp(oracle.sum(axis=1))
    assert folds.kind == "naive"


def test_groups_stay_whole_and_folds_are_no_worse_than_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(120), rng.geometric(0.3, size=120))
    labels = (groups * 7 % 3).astype(np.int64)
    labels[rng.random(len(labels)) < 0.05] = 1  # a few groups hold two classes
    folds = make_folds(labels, groups, folds=5, seed=0)
    parts = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    oracle = np.array([np.bincount(labels[held_out]) for _, held_out in parts])
    assert all(len(np.unique(folds.fold_of[groups == group])) == 1 for group in range(120))
    assert class_counts(folds, labels).std(axis=0).max() <= oracle.std(axis=0).max() + 1
    assert folds.kind == "grouped"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_every_class_is_in_every_fold_where_it_has_groups_enough(
    sizes: list[int], wanted: int, seed: int
) -> None:
    """Groups of 1 to 4 images, each of one class."""
    groups = np.repeat(np.arange(len(sizes)), np.array(sizes) + 1)
    labels = groups % 2
    if len(sizes) // 2 < 2:
        return
    folds = make_folds(labels, groups, folds=wanted, seed=seed)
    assert folds.count == min(wanted, len(sizes) // 2)
    assert class_counts(folds, labels).min() >= 1
    assert len(set(zip(groups.tolist(), folds.fold_of.tolist(), strict=True))) == len(sizes)


def test_a_seed_repeats_and_another_deals_anew() -> None:
    labels = np.arange(100) % 3
    one, again, other = (make_folds(labels, None, folds=5, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.fold_of, again.fold_of)
    assert (one.fold_of != other.fold_of).mean() > 0.5


def test_names_of_groups_do_not_matter() -> None:
    labels = np.arange(60) % 2
    groups = np.arange(60) // 3
    plain = make_folds(labels, groups, folds=4, seed=0).fold_of
    spread = make_folds(labels + 5, groups * 1000 - 7, folds=4, seed=0).fold_of
    np.testing.assert_array_equal(plain, spread)


def test_a_scarce_class_makes_fewer_folds_and_says_so() -> None:
    labels = np.array([0] * 20 + [1] * 6)
    groups = np.array([*range(20), 20, 20, 20, 21, 21, 22])
    folds = make_folds(labels, groups, folds=5, seed=0, classes=("cat", "dog"))
    assert folds.count == 3
    assert folds.warning == ("3 folds instead of 5: the class dog has 6 images in only 3 groups")
    assert make_folds(labels, None, folds=5, seed=0).warning is None


def test_a_class_that_cannot_be_learned_and_judged_is_refused() -> None:
    labels = np.array([0] * 20 + [1] * 3)
    groups = np.array([*range(20), 20, 20, 20])
    with pytest.raises(DatasetError, match=r"class dog has 3 image\(s\), all in one group"):
        make_folds(labels, groups, folds=5, seed=0, classes=("cat", "dog"))
    with pytest.raises(DatasetError, match=r"class number 1 has 1 image"):
        make_folds(labels[:21], None, folds=5, seed=0)
    with pytest.raises(ConfigError, match="folds is 1; give at least 2"):
        make_folds(labels, None, folds=1, seed=0)
