"""The fake encoder has to mean something, or the tests that stand on it mean nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError
from miniclip.preprocess import preprocess
from miniclip.testing import COLOURS, FakeEncoder, picture

ENCODER: Encoder = FakeEncoder()


def embedding(image: Image.Image) -> FloatArray:
    (row,) = ENCODER.encode_pixels(preprocess(image, ENCODER.image_spec)[None]).embeddings
    return np.asarray(row)


def test_every_colour_is_nearest_to_its_word() -> None:
    texts = ENCODER.encode_texts([f"a {colour} thing" for colour in COLOURS])
    for place, colour in enumerate(COLOURS):
        assert (texts @ embedding(picture(colour))).argmax() == place


def test_a_mostly_red_photo_is_red_first_and_then_blue() -> None:
    image = picture("red", (30, 30))
    image.paste(picture("blue", (10, 30)))
    red, blue, both, green = ENCODER.encode_texts(
        ["a red thing", "BLUE!", "red and blue", "a green thing"]
    ) @ embedding(image)
    assert both > red > blue > green


def test_texts_without_colours_still_differ() -> None:
    texts = ["a dog", "a cat", "", "собака"]
    vectors = ENCODER.encode_texts(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors @ vectors.T - np.eye(4)).max() < 0.99
    np.testing.assert_array_equal(vectors, ENCODER.encode_texts(texts))
    assert ENCODER.encode_texts([]).shape == (0, ENCODER.embedding_dim)


def test_features_know_where_a_colour_is_and_embeddings_do_not() -> None:
    left, right = picture("white"), picture("white")
    left.paste(picture("red", (16, 24)), (0, 0))
    right.paste(picture("red", (16, 24)), (16, 0))
    pixels = np.stack([preprocess(image, ENCODER.image_spec) for image in (left, right)])
    embeddings, features = ENCODER.encode_pixels(pixels)
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)
    assert features.shape == (2, ENCODER.feature_dim)
    assert np.abs(features[0] - features[1]).max() > 0.5


def test_arrays_are_what_the_protocol_says() -> None:
    pixels = np.zeros((3, 3, ENCODER.image_spec.side, ENCODER.image_spec.side), dtype=np.float32)
    embeddings, features = ENCODER.encode_pixels(pixels)
    assert embeddings.dtype == features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert ENCODER.encode_pixels(pixels[:0]).embeddings.shape == (0, ENCODER.embedding_dim)
    with pytest.raises(ConfigError, match=r"shape \(3, 3, 8, 16\)"):
        ENCODER.encode_pixels(pixels[:, :, :8])


def test_another_name_is_another_model() -> None:
    assert FakeEncoder().fingerprint == FakeEncoder().fingerprint
    assert FakeEncoder().fingerprint != FakeEncoder(name="other").fingerprint


def test_it_needs_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, miniclip.testing, miniclip.embed; "
        "sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_colour_is_refused() -> None:
    with pytest.raises(ConfigError, match="no colour 'mauve'"):
        picture("mauve")
