"""Reciprocal rank fusion against the formula of the paper, written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.index.hybrid import fuse

RANKINGS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=8), max_size=4)


@given(RANKINGS)
def test_the_score_is_the_sum_of_reciprocal_ranks(rankings: list[list[int]]) -> None:
    fused = fuse(rankings)

    for identity, score in fused:
        assert score == pytest.approx(
            sum(
                1 / (60 + ranking.index(identity) + 1)
                for ranking in rankings
                if identity in ranking
            )
        )
    assert {identity for identity, _ in fused} == set().union(*rankings)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_what_two_rankings_hold_comes_before_what_one_holds() -> None:
    assert [fused.id for fused in fuse([[1, 2, 3], [4, 3]])] == [3, 1, 4, 2]


def test_one_ranking_stays_as_it_is_and_ties_keep_the_first_one_first() -> None:
    assert [fused.id for fused in fuse([[5, 1, 3]])] == [5, 1, 3]
    assert [fused.id for fused in fuse([[5, 1], [7, 8]])] == [5, 7, 1, 8]
