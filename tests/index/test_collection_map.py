"""The map of a collection: clouds stay clouds, and get the names of what lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.index.collection_map import (
    draw_map,
    group,
    name_groups,
    project,
    sample,
    word_vectors,
)
from miniclip.index.word_lists import VOCABULARY
from miniclip.testing import FakeEncoder

WORDS = ("red", "green", "blue", "something")
DIM = 12


def clouds(each: int = 40) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return images in three clouds around the first three words, all with much in common."""
    rng = np.random.default_rng(1)
    words = unit_rows(np.eye(len(WORDS), DIM) + 0.01)
    common = 2 * np.eye(1, DIM, k=DIM - 1)
    of = np.repeat(np.arange(3), each)
    images = unit_rows(words[of] + common + 0.05 * rng.normal(size=(len(of), DIM)))
    return images, of, words


def test_groups_keep_to_one_cloud_and_have_the_name_of_its_word() -> None:
    images, of, words = clouds()

    drawn = draw_map(range(100, 220), images, (WORDS, words), total=500, seed=1)

    assert drawn.xy.shape == (120, 2)
    assert drawn.xy.min() >= 0
    assert drawn.xy.max() <= 1
    assert (drawn.ids[0], drawn.total) == (100, 500)
    assert {cluster.name.split(",")[0] for cluster in drawn.clusters} >= set(WORDS[:3])
    for number, cluster in enumerate(drawn.clusters):
        (cloud,) = set(of[drawn.cluster_of == number])
        assert WORDS[cloud] in cluster.name
        assert cluster.size == (drawn.cluster_of == number).sum()
        inside = drawn.xy[of == cloud]
        assert (inside.min(axis=0) <= [cluster.x, cluster.y]).all()
        assert (inside.max(axis=0) >= [cluster.x, cluster.y]).all()


def test_neighbours_stay_neighbours() -> None:
    images, of, _ = clouds()
    xy = project(images)

    far = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    np.fill_diagonal(far, np.inf)

    assert (of[far.argmin(axis=1)] == of).mean() > 0.98


def test_the_same_seed_draws_the_same_map() -> None:
    images, _, _ = clouds(15)

    np.testing.assert_array_equal(project(images, seed=4), project(images, seed=4))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_few_images_have_a_map_too(count: int) -> None:
    images = unit_rows(np.random.default_rng(0).normal(size=(count, DIM)))

    drawn = draw_map(range(count), images, (WORDS, unit_rows(np.eye(4, DIM))), total=count)

    assert np.isfinite(drawn.xy).all()
    assert len({tuple(place) for place in drawn.xy.tolist()}) == count
    assert [cluster.size for cluster in drawn.clusters] == [count]


def test_equal_images_lie_together_and_break_nothing() -> None:
    drawn = draw_map(
        range(30), unit_rows(np.ones((30, DIM))), (WORDS, unit_rows(np.eye(4, DIM))), total=30
    )

    assert np.isfinite(drawn.xy).all()


def test_groups_are_numbered_by_size_and_what_lies_between_is_in_none() -> None:
    rng = np.random.default_rng(2)
    lines = [np.linspace(at, at + 0.01 * n, n) for at, n in ((0, 20), (3, 60))]
    xy = np.stack([np.concatenate([*lines, [50.0]]), rng.normal(0, 1e-3, 81)], axis=1)

    found = group(xy.astype(np.float32))

    sizes = np.bincount(found[found >= 0])
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert len(set(found[:20]) & set(found[20:])) <= 1
    assert found[-1] == -1


def test_no_two_groups_share_a_first_word() -> None:
    images, of, words = clouds()

    names = name_groups(images, of % 2, WORDS, words)

    assert len({name.split(",")[0] for name in names}) == len(names) == 2
    assert name_groups(images, np.full(len(images), -1), WORDS, words) == []


def test_a_sample_is_drawn_without_replacement_by_its_seed() -> None:
    ids = np.arange(50, 1050)

    drawn = sample(ids, at_most=100, seed=3)

    assert len(set(drawn.tolist())) == 100
    assert set(drawn.tolist()) <= set(ids.tolist())
    assert drawn.tolist() == sorted(drawn.tolist()) == sample(ids, at_most=100, seed=3).tolist()
    assert sample(ids, at_most=1000) is ids


def test_words_are_embedded_by_the_encoder() -> None:
    words, rows = word_vectors(FakeEncoder())

    assert words == VOCABULARY
    assert rows.shape == (len(words), FakeEncoder().embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
