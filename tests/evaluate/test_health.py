"""Each figure of a space against the formula of its paper, spelled out in loops."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.datasets.captions import CaptionedImage, CaptionSet
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.evaluate.health import evaluate_health
from miniclip.evaluate.retrieval import EmbeddedCaptions
from miniclip.evaluate.sheet import retrieval_sheet
from miniclip.evaluate.space import (
    alignment,
    cosine_counts,
    effective_rank,
    modality_gap,
    nearest,
    skewness,
    uniformity,
)
from miniclip.images import ImageSource
from miniclip.testing import FakeEncoder

N, D = 14, 6


@pytest.fixture
def space() -> EmbeddedCaptions:
    """Images with 1, 2 or 3 texts near them, away from the origin."""
    rng = np.random.default_rng(4)
    counts = [1 + number % 3 for number in range(N)]
    owners = np.repeat(np.arange(N), counts)
    image = unit_rows(rng.normal(size=(N, D)) + 0.4)
    text = unit_rows(image[owners] + 0.6 * rng.normal(size=(len(owners), D)) - 0.3)
    images = tuple(
        CaptionedImage(
            f"{number}.jpg",
            ImageSource(name=f"{number}.jpg", data=b""),
            tuple(f"text {number}.{place}" for place in range(count)),
        )
        for number, count in enumerate(counts)
    )
    return EmbeddedCaptions(CaptionSet("toy", images), image, text)


def distance(one: FloatArray, other: FloatArray) -> float:
    return math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True)))


def loops(image: FloatArray, text: FloatArray, owners: IntArray, k: int) -> dict[str, float]:
    """Compute the figures as the papers write them."""
    means = [
        [sum(float(r[d]) for r in rows) / len(rows) for d in range(D)] for rows in (image, text)
    ]
    pairs = [(image[owner], one) for owner, one in zip(owners, text, strict=True)]
    others = [
        float(one @ row)
        for owner, one in zip(owners, text, strict=True)
        for number, row in enumerate(image)
        if number != owner
    ]
    times_image, times_text = [0] * len(image), [0] * len(text)
    for one in text:
        for found in sorted(range(len(image)), key=lambda i: -float(image[i] @ one))[:k]:
            times_image[found] += 1
    for one in image:
        for found in sorted(range(len(text)), key=lambda i: -float(text[i] @ one))[:k]:
            times_text[found] += 1
    return {
        "modality_gap": math.dist(*means),
        "alignment": sum(distance(a, b) ** 2 for a, b in pairs) / len(pairs),
        "uniformity_images": naive_uniformity(image),
        "uniformity_texts": naive_uniformity(
            text[[list(owners).index(i) for i in range(len(image))]]
        ),
        "effective_rank_images": naive_rank(image),
        "effective_rank_texts": naive_rank(text),
        "hubness_images": naive_skewness(times_image),
        "hubness_texts": naive_skewness(times_text),
        "matched_cosine": sum(float(a @ b) for a, b in pairs) / len(pairs),
        "unmatched_cosine": sum(others) / len(others),
    }


def naive_uniformity(rows: FloatArray) -> float:
    kernels = [math.exp(-2 * distance(a, b) ** 2) for a, b in combinations(rows, 2)]
    return math.log(sum(kernels) / len(kernels))


def naive_rank(rows: FloatArray) -> float:
    values = np.linalg.svd(rows.astype(np.float64) - rows.mean(axis=0), compute_uv=False)
    shares = [value / sum(values) for value in values if value > 1e-9]
    return math.exp(-sum(p * math.log(p) for p in shares))


def naive_skewness(times: list[int]) -> float:
    mean = sum(times) / len(times)
    spread = math.sqrt(sum((one - mean) ** 2 for one in times) / len(times))
    return sum((one - mean) ** 3 for one in times) / len(times) / spread**3


def test_every_figure_is_its_formula(space: EmbeddedCaptions) -> None:
    owners = space.captions.image_of_text
    result = evaluate_health(FakeEncoder(), space, neighbours=3, resamples=50)

    expected = loops(space.image, space.text, owners, 3)
    assert {name: score.value for name, score in result.figures.items()} == pytest.approx(
        expected, abs=1e-5
    )
    for name, score in result.figures.items():
        assert score.interval.low < score.value < score.interval.high, name
    assert result.temperature == pytest.approx(1 / 20)
    # The functions alone say the same.
    assert modality_gap(space.image, space.text) == pytest.approx(expected["modality_gap"])
    assert alignment(space.image, space.text, owners) == pytest.approx(expected["alignment"])
    assert uniformity(space.image) == pytest.approx(expected["uniformity_images"], abs=1e-5)


def test_intervals_draw_images_and_their_texts_follow(space: EmbeddedCaptions) -> None:
    owners = space.captions.image_of_text
    result = evaluate_health(FakeEncoder(), space, seed=6, resamples=40)
    by_hand: dict[str, list[float]] = {"modality_gap": [], "alignment": [], "uniformity_images": []}
    for drawn in np.random.default_rng(6).integers(N, size=(N, 40)).T:
        texts = np.concatenate([np.flatnonzero(owners == one) for one in drawn])
        image, text = space.image[drawn], space.text[texts]
        by_hand["modality_gap"].append(modality_gap(image, text))
        by_hand["alignment"].append(alignment(space.image, text, owners[texts]))
        kernels = [
            math.exp(-2 * distance(space.image[a], space.image[b]) ** 2)
            for a, b in combinations(drawn, 2)
            if a != b
        ]
        by_hand["uniformity_images"].append(math.log(sum(kernels) / len(kernels)))
    for name, values in by_hand.items():
        expected = tuple(np.quantile(values, [0.025, 0.975]))
        assert tuple(result.figures[name].interval) == pytest.approx(expected, abs=1e-5), name


def test_the_effective_rank_of_known_spaces() -> None:
    rows = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    assert effective_rank(rows) == pytest.approx(4)
    assert effective_rank(rows[:, :1].repeat(4, axis=1)) == pytest.approx(1)
    assert effective_rank(np.ones((5, 4), dtype=np.float32)) == 0.0
    wide = unit_rows(np.random.default_rng(0).normal(size=(3, 50)))
    assert effective_rank(wide) == pytest.approx(naive_rank(wide), abs=1e-6)


def test_no_hub_has_no_skewness_and_a_hub_has_much() -> None:
    assert skewness(np.array([5, 5, 5])) == 0.0
    assert skewness(np.array([0] * 99 + [100])) > 9


def test_neighbours_are_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miniclip.evaluate.space._BLOCK_CELLS", 30)
    rng = np.random.default_rng(1)
    rows, items = unit_rows(rng.normal(size=(20, 5))), unit_rows(rng.normal(size=(9, 5)))
    found = nearest(rows, items, 4)
    for row, own in zip(rows, found, strict=True):
        assert set(own.tolist()) == set(np.argsort(-(items @ row))[:4].tolist())
    edges = np.linspace(-1, 1, 7)
    owners = np.arange(20) % 9
    matched, unmatched = cosine_counts(items, rows, owners, edges)
    everything = rows @ items.T
    assert (matched + unmatched).tolist() == np.histogram(everything, edges)[0].tolist()
    assert matched.tolist() == np.histogram(everything[np.arange(20), owners], edges)[0].tolist()


def test_the_dictionary_holds_all_and_the_text_too(space: EmbeddedCaptions) -> None:
    result = evaluate_health(FakeEncoder(), space, resamples=10)
    told = result.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["interval"]) == set(result.figures)
    assert sum(told["histogram"]["matched"]) == len(space.text)
    assert sum(told["histogram"]["unmatched"]) == len(space.text) * (N - 1)
    assert told["hubs"][0]["times"] == max(hub.times for hub in result.hubs)
    assert str(result).count("\n") == len(result.figures) + 1


def test_one_image_is_no_space(space: EmbeddedCaptions) -> None:
    captions = CaptionSet("toy", space.captions.images[:1], (Skipped("a", "b"),))
    with pytest.raises(DatasetError, match="only 1 readable image"):
        evaluate_health(FakeEncoder(), EmbeddedCaptions(captions, space.image[:1], space.text[:1]))


def test_the_sheet_shows_hits_and_misses_as_they_are(space: EmbeddedCaptions) -> None:
    owners = space.captions.image_of_text
    sheet = retrieval_sheet(space, queries=6, top=4)
    ranks = space.ranks()
    assert [one.hit for one in sheet.sentences] == [True] * 3 + [False] * 3
    for one in sheet.sentences:
        cosines = space.image @ space.text[one.number]
        assert [a.number for a in one.answers] == np.argsort(-cosines)[:4].tolist()
        assert [a.right for a in one.answers] == [
            a.number == owners[one.number] for a in one.answers
        ]
        assert one.rank == ranks.text_to_image[one.number] + 1
        assert one.hit == one.answers[0].right
    for one in sheet.images:
        cosines = space.text @ space.image[one.number]
        assert [a.number for a in one.answers] == np.argsort(-cosines)[:4].tolist()
        assert [a.right for a in one.answers] == [
            owners[a.number] == one.number for a in one.answers
        ]
        assert one.rank == ranks.image_to_text[one.number] + 1
    assert retrieval_sheet(space, queries=6, seed=1) != sheet
