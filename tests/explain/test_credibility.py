"""Deletion and insertion against a loop over cells; maps that know nothing are called that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.explain.credibility import centre_map, curves, judge
from miniclip.explain.planted import SIDE, Planted, planted
from miniclip.explain.subject import Subject
from miniclip.preprocess import preprocess

CELLS = 7


def subject_of(one: Planted) -> Subject:
    return Subject(one.encoder, one.image, one.score)


def example() -> Planted:
    (one,) = planted("quadrant", 1, seed=5)
    return one


def test_the_curves_are_those_of_a_loop_over_the_cells() -> None:
    one = example()
    drops = np.random.default_rng(0).permutation(CELLS * CELLS).reshape(CELLS, CELLS)
    (found,) = curves(subject_of(one), [drops.astype(np.float32)], steps=CELLS)

    pixels = preprocess(one.image, one.encoder.image_spec)
    blank = pixels.mean(axis=(1, 2))[:, None, None]
    side = pixels.shape[1] // CELLS
    hidden, shown = pixels.copy(), blank.repeat(SIDE, 1).repeat(SIDE, 2)
    deletion, insertion = [_score(one, hidden)], [_score(one, shown)]
    ranked = sorted(np.ndindex(CELLS, CELLS), key=lambda cell: -drops[cell])
    for number, (row, column) in enumerate(ranked, start=1):
        cell = (
            slice(None),
            slice(row * side, (row + 1) * side),
            slice(column * side, (column + 1) * side),
        )
        hidden[cell] = blank
        shown[cell] = pixels[cell]
        if number % CELLS == 0:
            deletion.append(_score(one, hidden))
            insertion.append(_score(one, shown))

    np.testing.assert_allclose(found.deletion, deletion, atol=1e-5)
    np.testing.assert_allclose(found.insertion, insertion, atol=1e-5)
    by_hand = sum((before + after) / 2 for before, after in pairwise(deletion)) / CELLS
    assert found.deletion_auc == pytest.approx(by_hand, abs=1e-5)


def test_the_truth_beats_any_place_and_a_random_map_does_not() -> None:
    one = example()
    truth = one.region[::3, ::3].astype(np.float32)
    believed = judge(subject_of(one), truth)
    assert believed.verdict == "better than chance"
    assert believed.map.gain > believed.chance("gain").high > believed.chance("gain").low

    rng = np.random.default_rng(0)
    verdicts = [
        judge(subject_of(one), rng.normal(size=(14, 14)).astype(np.float32), seed=seed).verdict
        for seed in range(6)
    ]
    assert verdicts.count("no better than chance") >= 5


def test_a_score_that_hangs_on_nothing_has_no_credible_map() -> None:
    one = example()

    def constant(vectors: ImageVectors) -> FloatArray:
        return np.ones(len(vectors.features), dtype=np.float32)

    judged = judge(Subject(one.encoder, one.image, constant), centre_map(14))
    assert (judged.verdict, judged.p) == ("no better than chance", 1.0)


def test_a_map_of_the_middle_is_called_that() -> None:
    one = example()
    middle = np.zeros_like(one.region)
    middle[14:28, 14:28] = True
    encoder = type(one.encoder)(regions=middle[None])
    image = one.image.copy()
    image.paste(Image.new("RGB", (14, 14), (200, 40, 40)), (14, 14))
    judged = judge(Subject(encoder, image, lambda seen: seen.features[:, 0]), centre_map(14))
    assert judged.verdict == "no better than the middle"


def test_what_is_said_as_json() -> None:
    one = example()
    said = judge(subject_of(one), one.region[::3, ::3].astype(np.float32)).to_dict()
    assert said["random_maps"] == 19
    assert said["deletion"]["map"] < said["deletion"]["random"]
    assert said["insertion"]["map"] > said["insertion"]["random_interval"][1]
    assert len(said["deletion_curve"]) == 9


def _score(one: Planted, pixels: FloatArray) -> float:
    return float(one.score(one.encoder.encode_pixels(pixels[None]))[0])
