"""Metrics against the naive double loop that their definitions spell out."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip import metrics
from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.errors import ConfigError, DatasetError
from miniclip.metrics import (
    bootstrap_interval,
    label_ranks,
    median_rank,
    mrr,
    per_class_accuracy,
    recall_at,
    retrieval_ranks,
)


def naive_ranks(
    image: FloatArray, text: FloatArray, owners: IntArray
) -> tuple[list[int], list[int]]:
    """Follow the definition, one pair at a time: wrong answers at or above the best right one."""
    to_image = []
    for j in range(len(text)):
        own = float(image[owners[j]] @ text[j])
        wrong = [float(image[i] @ text[j]) for i in range(len(image)) if i != owners[j]]
        to_image.append(sum(score >= own for score in wrong))
    to_text = []
    for i in range(len(image)):
        best = max(float(image[i] @ text[j]) for j in range(len(text)) if owners[j] == i)
        wrong = [float(image[i] @ text[j]) for j in range(len(text)) if owners[j] != i]
        to_text.append(sum(score >= best for score in wrong))
    return to_image, to_text


@st.composite
def pairs(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, IntArray]:
    """Small whole numbers, so that ties abound and are exact; every image has a text."""
    images = draw(st.integers(1, 7))
    extra = draw(st.lists(st.integers(0, images - 1), max_size=12))
    owners = draw(st.permutations([*range(images), *extra]))
    cells = st.integers(-1, 1)

    def rows(count: int) -> FloatArray:
        drawn = draw(st.lists(st.tuples(cells, cells), min_size=count, max_size=count))
        return np.array(drawn, dtype=np.float32)

    return rows(images), rows(len(owners)), np.array(owners)


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_ranks_equal_the_double_loop_with_many_captions_and_ties(
    drawn: tuple[FloatArray, FloatArray, IntArray],
) -> None:
    ranks = retrieval_ranks(*drawn)
    to_image, to_text = naive_ranks(*drawn)
    assert ranks.text_to_image.tolist() == to_image
    assert ranks.image_to_text.tolist() == to_text


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    image, text = unit_rows(rng.normal(size=(31, 8))), unit_rows(rng.normal(size=(77, 8)))
    owners = np.concatenate([np.arange(31), rng.integers(31, size=46)])
    whole = retrieval_ranks(image, text, owners)
    whole_interval = bootstrap_interval(whole.text_to_image, owners, statistic="median", seed=4)
    monkeypatch.setattr(metrics, "_BLOCK_CELLS", 100)  # one image or three texts at a time
    blocked = retrieval_ranks(image, text, owners)
    assert blocked.text_to_image.tolist() == whole.text_to_image.tolist()
    assert blocked.image_to_text.tolist() == whole.image_to_text.tolist()
    assert (
        bootstrap_interval(whole.text_to_image, owners, statistic="median", seed=4)
        == whole_interval
    )


def test_a_model_that_says_the_same_to_everything_is_last_everywhere() -> None:
    image = unit_rows(np.ones((40, 64)))
    text = unit_rows(np.ones((200, 64)))
    ranks = retrieval_ranks(image, text, np.repeat(np.arange(40), 5))
    assert set(ranks.text_to_image) == {39}
    assert set(ranks.image_to_text) == {195}


def test_a_broken_vector_is_no_hit() -> None:
    image = unit_rows(np.eye(3))
    text = image.copy()
    text[1] = np.nan
    ranks = retrieval_ranks(image, text, np.arange(3))
    assert ranks.text_to_image.tolist() == [0, 2, 0]
    # The broken text counts as ahead of every image's own one, too.
    assert ranks.image_to_text.tolist() == [1, 2, 1]


def test_an_image_without_a_text_is_refused_by_number() -> None:
    with pytest.raises(DatasetError, match=r"1 of 3 images have no text \(the first: \[1\]\)"):
        retrieval_ranks(
            np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2], np.array([0, 2])
        )


def test_owners_outside_the_images_are_refused() -> None:
    eye = np.eye(2, dtype=np.float32)
    with pytest.raises(DatasetError, match="points at image 2"):
        retrieval_ranks(eye, eye, np.array([0, 2]))
    with pytest.raises(DatasetError, match="2 texts but 1 entries"):
        retrieval_ranks(eye, eye, np.array([0]))


def test_scores_of_known_ranks() -> None:
    ranks = np.array([0, 0, 1, 4, 9, 99])
    assert [recall_at(ranks, k) for k in (1, 5, 10)] == pytest.approx([2 / 6, 4 / 6, 5 / 6])
    assert median_rank(ranks) == pytest.approx(median([1, 1, 2, 5, 10, 100]))
    assert mrr(ranks) == pytest.approx((1 + 1 + 1 / 2 + 1 / 5 + 1 / 10 + 1 / 100) / 6)


def test_label_ranks_count_the_wrong_classes_at_or_above_the_right_one() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.3, 0.3, 0.2], [0.1, 0.2, 0.3]], dtype=np.float32)
    assert label_ranks(scores, np.array([0, 1, 0])).tolist() == [0, 1, 2]


def test_accuracy_per_class_and_a_class_nobody_saw() -> None:
    accuracy = per_class_accuracy(np.array([0, 1, 0, 3]), np.array([0, 0, 2, 2]), 4)
    assert accuracy.tolist() == pytest.approx([0.5, np.nan, 0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_the_bootstrap_equals_resampling_by_hand(statistic: str) -> None:
    rng = np.random.default_rng(11)
    owners = np.concatenate([np.arange(9), rng.integers(9, size=20)])
    values = rng.integers(0, 6, size=len(owners)).astype(float)

    by_hand = []
    draws = np.random.default_rng(5)
    for drawn in draws.integers(9, size=(50, 9)):
        sample = [value for image in drawn for value in values[owners == image]]
        by_hand.append(np.mean(sample) if statistic == "mean" else np.median(sample))

    interval = bootstrap_interval(values, owners, statistic=statistic, seed=5, resamples=50)  # type: ignore[arg-type]
    assert interval == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_the_interval_covers_the_truth_19_times_of_20() -> None:
    """Five captions of an image share its luck, as in real data; 400 data sets of 120 images.

    Counting captions as independent would cover the truth far less often, which the last line
    proves: the test can tell the two apart.
    """
    rng = np.random.default_rng(2)
    truth = 0.4
    owners = np.repeat(np.arange(120), 5)
    covered = careless = 0
    for seed in range(400):
        luck = rng.beta(truth * 1.5, (1 - truth) * 1.5, size=120)
        hits = rng.random(600) < luck[owners]
        low, high = bootstrap_interval(hits, owners, seed=seed, resamples=400)
        covered += low <= truth <= high
        low, high = bootstrap_interval(hits, None, seed=seed, resamples=400)
        careless += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.975
    assert careless / 400 < 0.85


def test_equal_seeds_give_equal_intervals_and_other_seeds_others() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(ConfigError, match="0 values"):
        bootstrap_interval(np.empty(0))
    with pytest.raises(ConfigError, match="0 times"):
        bootstrap_interval(np.ones(3), resamples=0)
