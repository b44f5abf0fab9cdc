"""The runtime encoder on a graph whose answers can be worked out by hand."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle, write_bundle
from miniclip.bundle_encoder import TEXT_BATCH, images_per_run
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ConfigError, ImageError, TokenizerError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from tests.tiny_bundle import (
    COLOURS,
    IMAGE_SPEC,
    MANIFEST,
    SIDE,
    TEXT_SPEC,
    WORDS,
    D,
    F,
    image_graph,
    images_alone,
    text_graph,
    tiny_files,
    word_vectors,
)


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder.open(tiny_bundle, threads=1)


def photo(colour: tuple[int, int, int]) -> np.ndarray:
    return preprocess(Image.new("RGB", (50, 40), colour), IMAGE_SPEC)


def test_it_is_an_encoder_that_says_what_the_manifest_says(
    encoder: OnnxEncoder, tiny_bundle: Bundle
) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.name == "tiny"
    assert encoder.fingerprint == tiny_bundle.fingerprint
    assert encoder.image_spec == IMAGE_SPEC
    assert (encoder.embedding_dim, encoder.feature_dim) == (D, F)
    assert (encoder.logit_scale, encoder.logit_bias) == (20.0, 0.0)


def test_every_colour_finds_its_word(encoder: OnnxEncoder) -> None:
    images = encoder.encode_pixels(np.stack([photo(colour) for colour in COLOURS.values()]))
    texts = encoder.encode_texts([f"a photo of a {word} square" for word in COLOURS])
    cosines = images.embeddings @ texts.T
    assert cosines.argmax(axis=1).tolist() == list(range(len(COLOURS)))
    assert cosines.argmax(axis=0).tolist() == list(range(len(COLOURS)))


def test_image_vectors_equal_a_sum_by_hand(encoder: OnnxEncoder) -> None:
    pixels = np.random.default_rng(0).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    embeddings, features = encoder.encode_pixels(pixels)
    half = SIDE // 2
    for image, embedding, feature in zip(pixels, embeddings, features, strict=True):
        quarters = [
            image[channel, top : top + half, left : left + half].mean()
            for channel in range(3)
            for top in (0, half)
            for left in (0, half)
        ]
        expected = np.array([*np.reshape(quarters, (3, 4)).mean(axis=1), 1.0])
        np.testing.assert_allclose(feature, quarters, atol=1e-5)
        np.testing.assert_allclose(embedding, expected / np.linalg.norm(expected), atol=1e-5)


MOST = images_per_run(SIDE)


@pytest.mark.parametrize("count", [0, 1, MOST, 3 * MOST + 1])
def test_batches_of_images_are_cut_and_joined(encoder: OnnxEncoder, count: int) -> None:
    pixels = np.random.default_rng(1).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)
    embeddings, features = encoder.encode_pixels(pixels)
    assert embeddings.shape == (count, D)
    assert features.shape == (count, F)
    assert embeddings.dtype == features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    for place in range(count):
        one = encoder.encode_pixels(pixels[place : place + 1])
        np.testing.assert_allclose(one.embeddings[0], embeddings[place], atol=1e-6)


def test_texts_keep_their_order_whatever_their_length(encoder: OnnxEncoder) -> None:
    generator = np.random.default_rng(2)
    texts = [
        " ".join(generator.choice(WORDS[4:], size=generator.integers(0, 14)))
        for _ in range(2 * TEXT_BATCH + 5)
    ]
    vectors = word_vectors()
    for text, row in zip(texts, encoder.encode_texts(texts), strict=True):
        ids = [WORDS.index(word) for word in ("[CLS]", *text.split(), "[SEP]")]
        mean = vectors[ids].mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_no_texts_give_no_rows(encoder: OnnxEncoder) -> None:
    assert encoder.encode_texts([]).shape == (0, D)


def test_one_text_is_not_a_list_of_letters(encoder: OnnxEncoder) -> None:
    with pytest.raises(TokenizerError, match=r"wrap it in \[\]"):
        encoder.encode_texts("red")


def test_a_number_is_not_a_text(encoder: OnnxEncoder) -> None:
    with pytest.raises(TokenizerError, match="7 of type int"):
        encoder.encode_texts(["red", 7])  # type: ignore[list-item]


def test_a_model_of_images_alone_refuses_words_by_name(tmp_path: Path) -> None:
    encoder = OnnxEncoder.open(images_alone(tmp_path / "images"))
    assert isinstance(encoder, Encoder)
    embeddings, features = encoder.encode_pixels(photo((255, 0, 0))[None])
    np.testing.assert_allclose(embeddings, features / np.linalg.norm(features), atol=1e-6)
    assert encoder.encode_texts([]).shape == (0, F)
    with pytest.raises(BundleError, match="tiny-images has no text tower; it takes images alone"):
        encoder.encode_texts(["red"])


def test_pixels_of_another_size_are_refused(encoder: OnnxEncoder) -> None:
    with pytest.raises(ImageError, match=r"\(1, 3, 8, 8\).*\(B, 3, 32, 32\)"):
        encoder.encode_pixels(np.zeros((1, 3, 8, 8), dtype=np.float32))


def test_thread_count_must_be_positive(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="threads is 0"):
        OnnxEncoder.open(tiny_bundle, threads=0)


def test_many_threads_share_one_encoder(tiny_bundle: Bundle) -> None:
    fresh = OnnxEncoder.open(tiny_bundle)  # so that the threads race for the first load as well
    expected = OnnxEncoder.open(tiny_bundle).encode_texts(list(COLOURS))
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: fresh.encode_texts(list(COLOURS)), range(64)):
            np.testing.assert_array_equal(vectors, expected)


def test_texts_need_no_image_graph(tiny_bundle: Bundle, tmp_path: Path) -> None:
    broken = write_bundle(
        tmp_path / "tiny", manifest=MANIFEST, files={**tiny_files(), "image.onnx": b"not a graph"}
    )
    encoder = OnnxEncoder.open(broken)
    assert encoder.encode_texts(["red"]).shape == (1, D)
    with pytest.raises(BundleError, match=r"image\.onnx does not load.*export the bundle again"):
        encoder.encode_pixels(np.zeros((1, 3, SIDE, SIDE), dtype=np.float32))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (image_graph(side=16), r"pixels has shape \['B', 3, 16, 16\].*says \[None, 3, 32, 32\]"),
        (image_graph(width=5), r"embedding has shape \['B', 5\].*says \[None, 4\]"),
        (image_graph(pixels="x"), r"has the inputs \['x'\], but needs \['pixels'\]"),
        (text_graph(), r"has the inputs \['attention_mask', 'input_ids'\]"),
    ],
    ids=["side", "width", "name", "the other tower"],
)
def test_a_graph_that_contradicts_the_manifest_is_refused(
    graph: bytes, message: str, tmp_path: Path
) -> None:
    bundle = write_bundle(
        tmp_path / "tiny", manifest=MANIFEST, files={**tiny_files(), "image.onnx": graph}
    )
    with pytest.raises(BundleError, match=message):
        OnnxEncoder.open(bundle).encode_pixels(np.zeros((1, 3, SIDE, SIDE), dtype=np.float32))


def test_a_token_that_the_graph_does_not_know_is_a_bundle_error(tmp_path: Path) -> None:
    text = dataclasses.replace(TEXT_SPEC, pad="max", pad_id=9_999)
    bundle = write_bundle(
        tmp_path / "tiny", manifest=dataclasses.replace(MANIFEST, text=text), files=tiny_files()
    )
    with pytest.raises(BundleError, match=r"text\.onnx failed to run"):
        OnnxEncoder.open(bundle).encode_texts(["red"])


def test_vectors_that_are_not_finite_are_refused(encoder: OnnxEncoder) -> None:
    with pytest.raises(BundleError, match="not finite"):
        encoder.encode_pixels(np.full((1, 3, SIDE, SIDE), np.nan, dtype=np.float32))
