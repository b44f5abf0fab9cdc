"""Where it is known what decides, the maps say so, and what says nothing is labelled."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.explain.explanation import CELLS, DEFAULT, METHODS, explain, find_method
from miniclip.explain.planted import KINDS, Kind, Planted, planted
from miniclip.explain.subject import Subject


def drops_of(one: Planted, method: str) -> np.ndarray:
    return METHODS[method](Subject(one.encoder, one.image, one.score), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_points_at_what_decides(kind: Kind) -> None:
    hits = [one.hit_by(drops_of(one, DEFAULT)) for one in planted(kind, 20)]
    assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_quadrant(method: str) -> None:
    for one in planted("quadrant", 3, seed=1):
        drops = drops_of(one, method)
        assert drops.shape == (CELLS, CELLS)
        assert drops.dtype == np.float32
        assert one.hit_by(drops)


def test_covering_alone_misses_what_is_there_twice() -> None:
    """It is why the default shows patches alone as well."""
    ones = list(planted("either", 8))
    assert sum(one.hit_by(drops_of(one, "occlusion")) for one in ones) < 6


def test_a_true_map_is_better_than_chance_and_the_middle() -> None:
    (one,) = planted("quadrant", 1, seed=2)
    found = explain(one.encoder, one.image, one.score)
    assert found.score == pytest.approx(Subject(one.encoder, one.image, one.score).whole())
    assert found.credibility.verdict == "better than chance"
    assert found.credibility.p == 1 / 20
    assert "better than chance" in str(found)


def test_equal_seeds_give_equal_maps_and_other_seeds_others() -> None:
    (one,) = planted("background", 1)
    subject = Subject(one.encoder, one.image, one.score)
    rise = find_method("rise")
    np.testing.assert_array_equal(rise(subject, 3), rise(subject, 3))
    assert (rise(subject, 3) != rise(subject, 4)).any()
