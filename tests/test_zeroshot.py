"""Class vectors and probabilities against the formulas, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from miniclip.arrays import FloatArray, unit_rows
from miniclip.errors import ConfigError
from miniclip.prompts import DEFAULT_TEMPLATES
from miniclip.testing import FakeEncoder
from miniclip.zeroshot import class_vectors, probabilities


@dataclass(frozen=True)
class Counting(FakeEncoder):
    """Notes every call for texts."""

    calls: list[list[str]] = field(default_factory=list)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        self.calls.append(list(texts))
        return super().encode_texts(texts)


def test_class_vectors_are_normalised_averaged_normalised() -> None:
    encoder = FakeEncoder()
    templates = ["a {} thing", "{}", "red light on a {} wall"]
    vectors = class_vectors(encoder, ["blue", "green"], templates)
    for vector, label in zip(vectors, ["blue", "green"], strict=True):
        each = [encoder.encode_texts([template.replace("{}", label)])[0] for template in templates]
        mean = sum(row / np.linalg.norm(row) for row in each) / len(each)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert vectors.dtype == np.float32


def test_an_encoder_that_forgets_unit_length_is_put_right() -> None:
    @dataclass(frozen=True)
    class Long(FakeEncoder):
        def encode_texts(self, texts: Sequence[str]) -> FloatArray:
            lengths = np.arange(1, len(texts) + 1, dtype=np.float32)
            scaled: FloatArray = super().encode_texts(texts) * lengths[:, None]
            return scaled

    templates = ["{} wall", "{} car", "a {}"]
    vectors = class_vectors(Long(), ["red", "pink"], templates)
    assert vectors == pytest.approx(class_vectors(FakeEncoder(), ["red", "pink"], templates))


def test_all_prompts_go_to_the_encoder_in_one_call() -> None:
    encoder = Counting()
    class_vectors(encoder, ["red", "blue", "green"])
    assert [len(call) for call in encoder.calls] == [3 * len(DEFAULT_TEMPLATES)]


def test_probabilities_are_the_softmax_of_scaled_cosines() -> None:
    rng = np.random.default_rng(0)
    images, classes = unit_rows(rng.normal(size=(5, 8))), unit_rows(rng.normal(size=(3, 8)))
    encoder = replace(FakeEncoder(), logit_scale=7.0, logit_bias=-3.0)
    found = probabilities(encoder, images, classes)
    for row, image in zip(found, images, strict=True):
        weights = [np.exp(7.0 * float(image @ vector) - 3.0) for vector in classes]
        assert row == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-5)
    assert found.dtype == np.float32


def test_a_very_sharp_model_gives_numbers_and_no_overflow() -> None:
    encoder = replace(FakeEncoder(), logit_scale=1e4)
    eye = np.eye(3, dtype=np.float32)
    found = probabilities(encoder, eye, eye)
    assert found.tolist() == eye.tolist()


def test_vectors_of_two_models_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="4 dimensions and classes 3"):
        probabilities(FakeEncoder(), np.ones((1, 4), np.float32), np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        (["cat", "cat"], ["{}"], "given twice"),
        ([], ["{}"], "holds no labels"),
        (["cat"], ["a photo"], "has 0 times"),
        (["cat"], [], "no templates"),
    ],
)
def test_useless_labels_and_templates_are_refused(
    labels: list[str], templates: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        class_vectors(FakeEncoder(), labels, templates)
