"""A shared bundle gives the vectors of the bundle, to programs that know nothing of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import Bundle, write_bundle
from miniclip.errors import ConfigError, ExportError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.image_specs import image_spec_from, read_preprocessor
from miniclip.pull.parity import encode_probes
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.share.processors import preprocessor
from miniclip.share.write import share_bundle
from tests.tiny_bundle import (
    IMAGE_SPEC,
    MANIFEST,
    TEXT_SPEC,
    D,
    image_graph,
    images_alone,
    tiny_files,
)

SCALE, BIAS = 7.5, -2.25


def changed(directory: Path, **changes: Any) -> Bundle:
    manifest = dataclasses.replace(MANIFEST, **changes)
    return write_bundle(directory, manifest=manifest, files=tiny_files())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("own") / "tiny"
    return changed(directory, logit_scale=SCALE, logit_bias=BIAS)


@pytest.fixture(scope="module")
def shared(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return share_bundle(bundle, tmp_path_factory.mktemp("others") / "tiny").directory


@pytest.fixture(scope="module")
def pixels() -> FloatArray:
    return np.stack([preprocess(photo, IMAGE_SPEC) for photo in probe_photos()])


def settings(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def tokens(shared: Path) -> dict[str, np.ndarray]:
    """Make tokens as a foreign program does, by the files in the folder alone."""
    own = settings(shared / "tokenizer_config.json")
    core = Tokenizer.from_file(str(shared / "tokenizer.json"))
    core.enable_truncation(own["model_max_length"])
    core.enable_padding(pad_id=core.token_to_id(own["pad_token"]), pad_token=str(own["pad_token"]))
    encodings = core.encode_batch(list(PROBE_SENTENCES))
    return {
        "input_ids": np.array([encoding.ids for encoding in encodings]),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
    }


def run(path: Path, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_the_towers_apart_give_the_vectors_of_the_bundle(
    bundle: Bundle, shared: Path, pixels: FloatArray
) -> None:
    expected = encode_probes(OnnxEncoder.open(bundle))
    assert expected.texts is not None
    images = run(shared / "onnx/vision_model.onnx", {"pixel_values": pixels})
    texts = run(shared / "onnx/text_model.onnx", tokens(shared))
    assert set(images) == {"image_embeds"}
    assert set(texts) == {"text_embeds"}
    np.testing.assert_allclose(unit_rows(images["image_embeds"]), expected.images, atol=1e-6)
    np.testing.assert_allclose(unit_rows(texts["text_embeds"]), expected.texts, atol=1e-6)


def test_both_as_one_give_the_logits_as_well(
    bundle: Bundle, shared: Path, pixels: FloatArray
) -> None:
    expected = encode_probes(OnnxEncoder.open(bundle))
    assert expected.texts is not None
    found = run(shared / "onnx/model.onnx", {"pixel_values": pixels, **tokens(shared)})
    logits = SCALE * expected.images @ expected.texts.T + BIAS
    np.testing.assert_allclose(found["logits_per_image"], logits, atol=1e-4)
    np.testing.assert_allclose(found["logits_per_text"], logits.T, atol=1e-4)
    np.testing.assert_allclose(found["image_embeds"], expected.images, atol=1e-6)
    np.testing.assert_allclose(found["text_embeds"], expected.texts, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"interpolation": "lanczos", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
        {"resize": "shortest", "resize_side": 40, "interpolation": "bicubic"},
        {"resize": "squash", "resize_side": 48},
    ],
)
def test_what_is_said_of_pixels_is_what_our_own_reader_reads(
    change: dict[str, Any], tmp_path: Path
) -> None:
    spec = dataclasses.replace(IMAGE_SPEC, **change)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor(spec)))
    assert image_spec_from(read_preprocessor(tmp_path)) == spec


def test_what_others_cannot_say_of_pixels_is_refused() -> None:
    spec = dataclasses.replace(IMAGE_SPEC, resize="shortest", resize_side=40, crop="round")
    with pytest.raises(ExportError, match="crop = 'round' cannot be made by other programs"):
        preprocessor(spec)


def test_the_configuration_says_how_logits_become_probabilities(
    shared: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert settings(shared / "config.json")["model_type"] == "siglip"  # it has a bias
    softmax = share_bundle(tiny_bundle, tmp_path / "out").directory
    config = settings(softmax / "config.json")
    assert config["model_type"] == "clip"
    assert np.exp(config["logit_scale_init_value"]) == pytest.approx(MANIFEST.logit_scale)
    assert config["projection_dim"] == D


def test_the_card_states_the_licence_and_what_was_measured(shared: Path) -> None:
    card = (shared / "README.md").read_text()
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    assert "7.5 c -2.25, of which a sigmoid makes probabilities" in card
    assert "on 1 photos and 1 sentences: least cosine of images 1.000000" in card


def test_a_card_of_its_own_comes_along_and_an_odd_licence_by_its_name(tmp_path: Path) -> None:
    manifest = dataclasses.replace(
        MANIFEST, licence="House rules", provenance={"image_tower": "/home/ada/towers/red"}
    )
    files = {**tiny_files(), "model_card.md": b"---\nlicense: mit\n---\n# Tiny\n\nIt sees colours."}
    bundle = write_bundle(tmp_path / "tiny", manifest=manifest, files=files)
    card = (share_bundle(bundle, tmp_path / "out").directory / "README.md").read_text()
    assert 'license: "other"\nlicense_name: "House rules"' in card
    assert "license: mit" not in card
    assert card.endswith("# Tiny\n\nIt sees colours.\n")
    assert "ada" not in card


def test_a_model_of_images_alone_is_one_graph(tmp_path: Path, pixels: FloatArray) -> None:
    bundle = images_alone(tmp_path / "tiny")
    result = share_bundle(bundle, tmp_path / "out")
    assert set(result.files) == {
        *("README.md", "config.json", "preprocessor_config.json", "onnx/model.onnx")
    }
    expected = OnnxEncoder.open(bundle).encode_pixels(pixels)
    found = run(result.directory / "onnx/model.onnx", {"pixel_values": pixels})
    np.testing.assert_allclose(found["pooler_output"], expected.features, atol=1e-6)


def test_nothing_is_overwritten(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("all of it")
    with pytest.raises(ConfigError, match="thesis exists; name a new directory"):
        share_bundle(tiny_bundle, tmp_path / "thesis")
    (tmp_path / "empty").mkdir()
    share_bundle(tiny_bundle, tmp_path / "empty")
    with pytest.raises(ConfigError, match="empty exists"):
        share_bundle(tiny_bundle, tmp_path / "empty")


def test_towers_of_two_versions_of_onnx_are_refused_by_number(tmp_path: Path) -> None:
    other = onnx.load_from_string(image_graph())
    other.opset_import[0].version = 16
    files = {**tiny_files(), "image.onnx": other.SerializeToString()}
    bundle = write_bundle(tmp_path / "tiny", manifest=MANIFEST, files=files)
    with pytest.raises(ExportError, match=r"versions 16 and 17 of ONNX's operators ai\.onnx"):
        share_bundle(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_padding_token_that_the_tokenizer_lacks_is_refused(tmp_path: Path) -> None:
    text = dataclasses.replace(TEXT_SPEC, pad_id=999)
    with pytest.raises(ExportError, match="no token of id 999"):
        share_bundle(changed(tmp_path / "tiny", text=text), tmp_path / "out")
