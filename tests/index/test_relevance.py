"""Confidence against its formula in plain loops, and what it says of colours."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, median, pstdev

import numpy as np
import pytest

from miniclip.arrays import FloatArray, unit_rows
from miniclip.home import cache_dir
from miniclip.index.relevance import CUT, Relevance
from miniclip.index.word_lists import BACKGROUND, VOCABULARY
from miniclip.preprocess import preprocess
from miniclip.testing import FakeEncoder, picture

ENCODER = FakeEncoder()


def pictures(*colours: str) -> FloatArray:
    pixels = np.stack([preprocess(picture(colour), ENCODER.image_spec) for colour in colours])
    return ENCODER.encode_pixels(pixels).embeddings


def confidences(words: str, images: FloatArray, crowd: FloatArray | None = None) -> list[float]:
    judge = Relevance.of(ENCODER)
    (query,) = ENCODER.encode_texts([words])
    everyone = judge.opinions(images if crowd is None else crowd)
    return [float(share) for share in judge.confidence(query, judge.opinions(images), everyone)]


def test_the_evidence_is_own_opinion_and_neighbours_less_the_crowd() -> None:
    rng = np.random.default_rng(3)
    judge = Relevance(*(unit_rows(rng.normal(size=(n, 8))) for n in (30, 25)))
    images, crowd = (unit_rows(rng.normal(size=(n, 8)) + 0.5) for n in (6, 40))
    query = unit_rows(rng.normal(size=8) + 0.5)

    def opinion(image: FloatArray, asked: FloatArray) -> float:
        background = [float(image @ row) for row in judge.background]
        return (float(image @ asked) - fmean(background)) / pstdev(background)

    known = sorted([*judge.background, *judge.words], key=lambda row: -float(row @ query))
    middle = median([*(opinion(member, query) for member in crowd), *([0.0] * 20)])
    expected = [
        opinion(image, query)
        + fmean(opinion(image, row) for row in known[:20])
        - min(max(middle, -0.5), 1)
        for image in images
    ]

    found = judge.evidence(query, judge.opinions(images), judge.opinions(crowd))
    shares = judge.confidence(query, judge.opinions(images), judge.opinions(crowd))

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    odds = [2.5 * (evidence - 4.2) for evidence in expected]
    np.testing.assert_allclose(shares, [1 / (1 + math.exp(-odd)) for odd in odds], atol=1e-3)


def test_a_picture_that_shows_it_is_told_from_those_that_do_not() -> None:
    images = pictures("red", "blue", "green")

    red, *others = confidences("a red bicycle", images)

    assert red > CUT
    assert max(others) < 0.05


def test_nothing_matches_what_no_picture_shows() -> None:
    assert max(confidences("purple", pictures("grey", "white", "black", "brown"))) < 0.05


def test_where_every_picture_shows_it_all_match() -> None:
    images = pictures(*["orange"] * 50)

    assert min(confidences("an orange", images)) > CUT


def test_what_the_whole_crowd_likes_a_little_counts_less() -> None:
    mixed = unit_rows(pictures("red") + pictures("blue"))
    others, alike = pictures("blue", "green", "white"), np.repeat(mixed, 60, axis=0)

    alone, in_a_crowd = (confidences("red", mixed, crowd)[0] for crowd in (others, alike))

    assert in_a_crowd < alone


def test_the_background_is_embedded_once_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = FakeEncoder(name="never seen")
    calls: list[int] = []
    encode = FakeEncoder.encode_texts
    monkeypatch.setattr("miniclip.index.relevance._MADE", {})

    def counted(encoder: FakeEncoder, texts: tuple[str, ...]) -> FloatArray:
        calls.append(len(texts))
        return encode(encoder, texts)

    monkeypatch.setattr(FakeEncoder, "encode_texts", counted)

    first = Relevance.of(fresh)
    assert Relevance.of(fresh) is first
    monkeypatch.setattr("miniclip.index.relevance._MADE", {})  # as in another process
    again = Relevance.of(fresh)

    assert calls == [len(BACKGROUND) + len(VOCABULARY)]
    np.testing.assert_array_equal(again.background, first.background)
    Relevance.of(FakeEncoder(name="another"))
    assert len(calls) == 2


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_cache_is_made_again(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miniclip.index.relevance._MADE", {})
    right = Relevance.of(ENCODER)
    (path,) = cache_dir().glob("background-*.npy")
    path.write_bytes(content)
    monkeypatch.setattr("miniclip.index.relevance._MADE", {})

    np.testing.assert_array_equal(Relevance.of(ENCODER).words, right.words)
    assert path.stat().st_size > len(content)


def test_the_lists_are_sentences_and_words_each_once() -> None:
    assert len(BACKGROUND) == len(set(BACKGROUND)) > 400
    assert len(VOCABULARY) == len(set(VOCABULARY)) > 500
    assert all(line == line.strip() for line in (*BACKGROUND, *VOCABULARY))


def test_the_home_of_tests_is_their_own(home: Path) -> None:
    Relevance.of(FakeEncoder(name="somewhere"))

    assert any((home / "cache").glob("background-*"))
