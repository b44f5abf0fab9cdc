"""What is asked: words against a loop, and log-odds against probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.errors import ConfigError
from miniclip.explain.question import ask_text
from miniclip.explain.words import word_drops
from miniclip.preprocess import preprocess
from miniclip.testing import FakeEncoder, picture

ENCODER = FakeEncoder()


def test_the_word_that_names_the_colour_carries_the_text() -> None:
    (seen,) = ENCODER.encode_pixels(preprocess(picture("red"), ENCODER.image_spec)[None]).embeddings
    words = word_drops(ENCODER, "a  red thing", seen)
    assert [word.word for word in words] == ["a", "red", "thing"]
    for word in words:
        rest = [one.word for one in words if one is not word]
        one, other = ENCODER.encode_texts(["a red thing", " ".join(rest)]) @ seen
        assert word.drop == pytest.approx(one - other, abs=1e-6)
    assert words[1].drop > 0.9
    assert words[1].to_dict() == {"word": "red", "drop": words[1].drop}


def test_a_question_about_a_text_knows_its_cosine() -> None:
    asked = ask_text(ENCODER, picture("red"), "red")
    assert asked.value == pytest.approx(1)
    assert str(asked) == "red: cosine 1.000"
    vectors = ENCODER.encode_pixels(preprocess(picture("blue"), ENCODER.image_spec)[None])
    assert np.allclose(asked.score(vectors), 0, atol=1e-3)


def test_a_text_of_no_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="no words"):
        ask_text(ENCODER, picture("red"), "  ")
