"""Prompts and labels together: the sum, its weights, and that neither part spoils the other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.errors import DatasetError
from miniclip.probe.heads import Rows, fit_head
from miniclip.probe.heads.blend import BlendHead, fitted_weights
from tests.probe.heads.blobs import blobs, named_prompts


def few_and_rest(
    images: int, seed: int, *, apart: float = 1.0
) -> tuple[Rows, IntArray, Rows, IntArray]:
    """`images` of each of three classes to learn from, 300 to be asked about."""
    rows, labels = blobs(
        300 + 3 * images, features=40, embedding=40, apart=apart, uneven=1, seed=seed
    )
    few = np.arange(len(labels)) < 3 * images
    return rows.take(few), labels[few], rows.take(~few), labels[~few]


def accuracy(kind: str, images: int, prompts_noise: float, *, apart: float) -> float:
    """Mean over eight draws; prompts near the class middles, or far off."""
    right = []
    for seed in range(8):
        few, labels, rest, truth = few_and_rest(images, seed, apart=apart)
        prompts = named_prompts(rest, truth, noise=prompts_noise, seed=seed)
        head = fit_head(kind, few, labels, 3, prompts=prompts, logit_scale=20)
        right.append((head.scores(rest).argmax(axis=1) == truth).mean())
    return float(np.mean(right))


@pytest.mark.parametrize("images", [1, 2, 4, 16])
@pytest.mark.parametrize("prompts_noise", [0.05, 5.0], ids=["good prompts", "bad prompts"])
def test_it_is_never_clearly_worse_than_prompts_or_labels_alone(
    images: int, prompts_noise: float
) -> None:
    alone = [accuracy(kind, images, prompts_noise, apart=0.35) for kind in ("zeroshot", "logistic")]
    # With one or two images there is hardly anything to weigh prompts and labels by.
    slack = 0.02 if images > 2 else 0.08
    assert accuracy("blend", images, prompts_noise, apart=0.35) > max(alone) - slack


def test_scores_are_the_weighted_sum_of_what_the_parts_say() -> None:
    few, labels, rest, truth = few_and_rest(5, 0)
    head = fit_head("blend", few, labels, 3, prompts=named_prompts(rest, truth), logit_scale=20)
    assert isinstance(head, BlendHead)
    weights = head.settings["weights"]
    alone = [
        fit_head(kind, few, labels, 3, prompts=named_prompts(rest, truth), logit_scale=20)
        for kind in ("zeroshot", "prototype", "kernel")
    ]
    for row in range(10):
        one = rest.take(np.array([row]))
        expected = np.zeros(3)
        for weight, part in zip(weights, alone, strict=True):
            said = part.scores(one)[0]
            expected += weight * (said - said.mean())
        assert head.scores(one)[0] == pytest.approx(expected)


def test_weights_are_the_most_probable_ones() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=40)
    sure = np.eye(3)[labels] * 2
    said = np.stack([sure + rng.standard_normal((40, 3)), rng.standard_normal((40, 3))])
    start, leeway = np.array([0.5, 1.0]), np.array([1.0, 2.0])

    def loss(weights: tuple[float, ...]) -> float:
        total = sum(((w - s) / t) ** 2 / 2 for w, s, t in zip(weights, start, leeway, strict=True))
        for row in range(40):
            logits = weights[0] * said[0, row] + weights[1] * said[1, row]
            total -= logits[labels[row]] - np.log(np.exp(logits).sum())
        return float(total)

    grid = np.arange(0, 2.5, 0.05)
    best = min(product(grid, grid), key=loss)
    assert fitted_weights(said, labels, start, leeway) == pytest.approx(best, abs=0.04)


def test_a_class_that_has_only_a_name_can_still_be_told() -> None:
    few, labels, rest, truth = few_and_rest(4, 0, apart=2)
    prompts = named_prompts(rest, truth, noise=0.05)
    known = labels != 2
    head = fit_head("blend", few.take(known), labels[known], 3, prompts=prompts, logit_scale=20)
    told = head.scores(rest.take(truth == 2)).argmax(axis=1)
    assert (told == 2).mean() > 0.9


def test_without_any_image_it_points_to_zeroshot() -> None:
    nothing: FloatArray = np.zeros((0, 4), np.float32)
    with pytest.raises(DatasetError, match="take the zeroshot head"):
        fit_head(
            "blend",
            Rows(nothing, nothing),
            np.zeros(0, np.int64),
            2,
            prompts=unit_rows(np.ones((2, 4))),
        )
