"""Nearest mean, nearest neighbours and prompts alone, against loops over images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from miniclip.errors import ConfigError
from miniclip.probe.heads import HeadSettings, fit_head, load_head
from tests.probe.heads.blobs import blobs, in_space, named_prompts


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_the_prototype_is_the_mean_of_directions_from_the_middle_of_the_classes() -> None:
    rows, labels = blobs(40)
    labels = np.where(np.arange(40) < 20, 0, labels)  # of unequal sizes
    head = fit_head("prototype", rows, labels, 3)
    roots = np.sign(rows.features) * np.sqrt(np.abs(rows.features))
    middle = np.mean([roots[labels == label].mean(axis=0) for label in range(3)], axis=0)
    placed = in_space(rows.features, middle)
    for row, scores in zip(placed, head.scores(rows), strict=True):
        for label in range(3):
            own = [way / np.linalg.norm(way) for way in placed[labels == label]]
            assert scores[label] == pytest.approx(20 * cosine(row, np.mean(own, axis=0)), abs=1e-3)


def test_each_neighbour_votes_by_its_cosine() -> None:
    rows, labels = blobs(40)
    head = fit_head("knn", rows, labels, 3, settings=HeadSettings(neighbours=5))
    placed = in_space(rows.features)
    for row, scores in zip(placed, head.scores(rows), strict=True):
        near = sorted(
            (
                (cosine(row, other), label)
                for other, label in zip(placed, labels.tolist(), strict=True)
            ),
            reverse=True,
        )[:5]
        votes = [(math.exp(10 * (near_by - near[0][0])), label) for near_by, label in near]
        total = sum(vote for vote, _ in votes)
        for label in range(3):
            own = sum(vote for vote, its in votes if its == label)
            expected = math.log((own + 1 / 3) / (total + 1))
            assert scores[label] == pytest.approx(expected, abs=0.02)


def test_the_number_of_neighbours_is_the_one_that_fits_images_left_out() -> None:
    rows, labels = blobs(60, apart=0.7)
    losses = fit_head("knn", rows, labels, 3).settings["left_out_loss"]
    for k in (1, 5, 20):
        total = 0.0
        for image in range(60):
            others = np.delete(np.arange(60), image)
            # The middle of all rows, as the head has it: it moves little by one image.
            head = fit_head("knn", rows, labels, 3, settings=HeadSettings(neighbours=k))
            arrays = head.arrays()
            arrays |= {"rows": arrays["rows"][others], "labels": labels[others]}
            scores = load_head("knn", head.settings, arrays).scores(rows.take(np.array([image])))
            total -= scores[0, labels[image]] - math.log(np.exp(scores[0]).sum())
        assert losses[str(k)] == pytest.approx(total / 60, abs=0.01)


def test_copies_are_left_out_together() -> None:
    rows, labels = blobs(240, apart=0)
    labels = np.random.default_rng(0).permutation(labels)
    twice = np.tile(np.arange(240), 2)
    alone = fit_head("knn", rows.take(twice), labels[twice], 3).settings
    grouped = fit_head("knn", rows.take(twice), labels[twice], 3, groups=twice).settings
    assert alone["neighbours"] == 1
    assert grouped["neighbours"] == 40


def test_zeroshot_is_the_scaled_cosine_with_the_prompt() -> None:
    rows, labels = blobs(20)
    prompts = named_prompts(rows, labels)
    head = fit_head("zeroshot", rows, labels, 3, prompts=prompts, logit_scale=18.5)
    for row, scores in zip(rows.embeddings, head.scores(rows), strict=True):
        expected = [18.5 * cosine(row, prompt) for prompt in prompts]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_zeroshot_needs_no_image() -> None:
    rows, labels = blobs(20)
    nothing = np.arange(0)
    prompts = named_prompts(rows, labels)
    head = fit_head("zeroshot", rows.take(nothing), labels[nothing], 3, prompts=prompts)
    assert head.scores(rows).shape == (20, 3)


@pytest.mark.parametrize("kind", ["zeroshot", "blend"])
def test_prompts_must_be_there_and_fit(kind: str) -> None:
    rows, labels = blobs(20)
    with pytest.raises(ConfigError, match="needs prompts"):
        fit_head(kind, rows, labels, 3)
    with pytest.raises(ConfigError, match="one vector per class"):
        fit_head(kind, rows, labels, 3, prompts=np.ones((2, 6), np.float32))


@pytest.mark.parametrize("kind", ["prototype", "knn", "zeroshot"])
def test_a_saved_head_scores_the_same_and_a_seed_gives_the_same_bytes(kind: str) -> None:
    rows, labels = blobs()
    prompts = named_prompts(rows, labels)
    one, two = (fit_head(kind, rows, labels, 3, prompts=prompts, seed=3) for _ in range(2))
    assert {name: array.tobytes() for name, array in one.arrays().items()} == {
        name: array.tobytes() for name, array in two.arrays().items()
    }
    again = load_head(kind, one.settings, one.arrays())
    assert (again.scores(rows) == one.scores(rows)).all()
    assert again.scores(rows).dtype == np.float64


@pytest.mark.parametrize("kind", ["prototype", "knn", "kernel", "svm"])
def test_one_image_a_class_names_that_image(kind: str) -> None:
    rows, labels = blobs(3, apart=9)
    assert fit_head(kind, rows, labels, 3).scores(rows).argmax(axis=1).tolist() == [0, 1, 2]
