"""Two classifiers on the same images: the exact test against enumeration and the binomial test."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from miniclip.errors import ConfigError
from miniclip.probe.comparison import compare


def test_single_images_give_the_exact_test_of_mcnemar() -> None:
    a = np.array([True] * 80 + [True] * 14 + [False] * 4 + [False] * 2)
    b = np.array([True] * 80 + [False] * 14 + [True] * 4 + [False] * 2)
    found = compare(a, b, names=("robust", "baseline"))
    assert found.p == pytest.approx(binomtest(14, 18).pvalue)
    assert found.difference == pytest.approx(0.1)
    assert found.verdict == "robust is better"
    # Agresti and Min 2005: b + 1/2, c + 1/2, n + 2.
    margin = 1.959964 * np.sqrt(14 + 4 + 1 - (14 - 4) ** 2 / 102) / 102
    assert found.interval == pytest.approx((10 / 102 - margin, 10 / 102 + margin), rel=0.02)
    assert compare(b, a, names=("baseline", "robust")).verdict == "robust is better"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1))
def test_p_equals_going_through_all_sign_patterns(rows: list[tuple[bool, bool, int]]) -> None:
    a, b, groups = (np.array(column) for column in zip(*rows, strict=True))
    balances = [int(a[groups == g].sum()) - int(b[groups == g].sum()) for g in np.unique(groups)]
    totals = [
        sum(sign * balance for sign, balance in zip(signs, balances, strict=True))
        for signs in product((-1, 1), repeat=len(balances))
    ]
    expected = np.mean([abs(total) >= abs(sum(balances)) for total in totals])
    assert compare(a, b, groups).p == pytest.approx(expected)


def test_a_classifier_does_not_differ_from_itself() -> None:
    hits = np.random.default_rng(0).random(300) < 0.9
    found = compare(hits, hits)
    assert (found.difference, found.p, found.verdict) == (0.0, 1.0, "no difference")
    low, high = found.interval
    assert -0.02 < low < 0 < high < 0.02


def test_repeats_of_one_picture_are_no_evidence() -> None:
    """Twelve copies of one image that only A has right: one group, one throw of a coin."""
    a, b = np.ones(100, bool), np.ones(100, bool)
    b[:12] = False
    groups = np.maximum(np.arange(100) - 11, 0)
    assert compare(a, b).verdict == "A is better"
    together = compare(a, b, groups)
    assert (together.p, together.verdict) == (1.0, "no difference")
    assert together.interval.low < 0 < together.interval.high


@pytest.mark.parametrize(("group_size", "images"), [(1, 400), (5, 600)])
def test_equal_classifiers_are_called_different_once_in_20_times(
    group_size: int, images: int
) -> None:
    rng, false_alarms, held = np.random.default_rng(3), 0, 0
    groups = np.arange(images) // group_size
    for _ in range(300):
        hard = rng.random(images // group_size)[groups] < 0.2
        a, b = (~hard | (rng.random(images) < 0.5) for _ in range(2))
        found = compare(a, b, groups)
        false_alarms += found.verdict != "no difference"
        held += found.interval.low <= 0 <= found.interval.high
    assert false_alarms <= 24
    assert held >= 276


def test_other_images_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="3 and 2 answers"):
        compare(np.ones(3, bool), np.ones(2, bool))
