"""What a person types, as terms with weights, and the one vector that they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.errors import ConfigError, ImageError
from miniclip.index.query import parse_query, query_vector
from miniclip.testing import FakeEncoder, picture


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a dog on the beach", [("a dog on the beach", 1)]),
        ("beach -people", [("beach", 1), ("people", -1)]),
        ("beach -people at sunset", [("beach at sunset", 1), ("people", -1)]),
        ('beach -"two people":0.5', [("beach", 1), ("two people", -0.5)]),
        ("dog on grass:2", [("dog on grass", 2)]),
        ('"dog on grass:2" "snow":0.5', [("dog on grass", 2), ("snow", 0.5)]),
        ("dog +cat:3 -mouse", [("dog", 1), ("cat", 3), ("mouse", -1)]),
        ("a t-shirt and a man -- woman - x", [("a t-shirt and a man -- woman - x", 1)]),
        ("the train at 12:30", [("the train at 12:30", 1)]),
        ("a 16:9 screen", [("a 16:9 screen", 1)]),
        ('he said "hello', [('he said "hello', 1)]),
        ("12:30:2", [("12:30:2", 1)]),
        ('"12:30":2', [("12:30", 2)]),
    ],
)
def test_a_query_says(text: str, terms: list[tuple[str, float]]) -> None:
    assert [(term.what, term.weight) for term in parse_query(text).terms] == terms


def test_files_have_weights_and_minus_too_unless_they_are_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd:2").touch()
    Path("-odd").touch()

    terms = parse_query("", ["a.jpg", "a.jpg:2.5", "-b.jpg", "-b.jpg:2", "odd:2", "-odd"]).terms

    assert [(str(term.what), term.weight) for term in terms] == [
        ("a.jpg", 1),
        ("a.jpg", 2.5),
        ("b.jpg", -1),
        ("b.jpg", -2),
        ("odd:2", 1),
        ("-odd", 1),
    ]


@pytest.mark.parametrize(
    "text", ["beach -people", '"dog on grass":2 "snow"', "a cat", "dog +cat:3"]
)
def test_a_query_is_shown_as_it_could_be_typed(text: str) -> None:
    query = parse_query(text)

    assert parse_query(str(query)) == query


@given(st.text())
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except ConfigError:
        return
    assert query.wanted
    assert all(isinstance(term.what, str) and term.what.strip() for term in query.terms)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the query is empty"),
        ("   ", "the query is empty"),
        ("-people", r"only says what is not wanted \(people\)"),
        ("dog:0", "the weight of 'dog' is 0"),
        ("dog:101", "up to 100"),
    ],
)
def test_a_query_without_anything_wanted_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_query(text)


def test_the_vector_is_the_weighted_sum_of_unit_vectors(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    picture("blue").save(tmp_path / "blue.png")
    query = parse_query("red -green:0.5", [f"{tmp_path / 'blue.png'}:2"])

    vector = query_vector(encoder, query)

    red, green, blue = encoder.encode_texts(["red", "green", "blue"])
    expected = red - 0.5 * green + 2 * blue
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=0.01)
    assert vector.dtype == np.float32


def test_terms_that_cancel_and_images_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cancel each other"):
        query_vector(FakeEncoder(), parse_query("red -red"))
    with pytest.raises(ImageError, match="does not exist"):
        query_vector(FakeEncoder(), parse_query("red", [tmp_path / "gone.png"]))
