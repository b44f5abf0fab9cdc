"""A shared run is loaded by transformers and onnxruntime, and gives the run's own vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    PreTrainedTokenizerFast,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from miniclip.arrays import unit_rows
from miniclip.cli import main
from miniclip.errors import ConfigError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.pull.ready_made import Label, bundle_of
from miniclip.pull.transformers_js import read_transformers_js
from miniclip.share.write import Shared
from miniclip.train.export.run import export_run
from miniclip.train.export.share import share_run
from miniclip.train.run import train
from tests.train.tiny_run import write_recipe

LIKE_CLIP = ("image.head.kind=linear", "text.pooling=pooler", "text.head.bias=false")
SENTENCES = PROBE_SENTENCES[:12]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = write_recipe(folder, image="vit")
    train(recipe, [*LIKE_CLIP, "train.passes=1"], folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def encoder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    output = tmp_path_factory.mktemp("bundle") / "own"
    return OnnxEncoder.open(export_run(run, output, full_weights=True))


@pytest.fixture(scope="module")
def shared(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return share_run(run, tmp_path_factory.mktemp("others") / "shared")


def test_transformers_gives_the_same_vectors(shared: Shared, encoder: OnnxEncoder) -> None:
    assert shared.dual_encoder, shared.reason
    model = VisionTextDualEncoderModel.from_pretrained(shared.directory).eval()
    processor: Any = VisionTextDualEncoderProcessor.from_pretrained(
        shared.directory, use_fast=False
    )
    photos = probe_photos()[:6]
    inputs = processor(
        text=list(SENTENCES), images=photos, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        found = model(**inputs)
    pixels = np.stack([preprocess(photo, encoder.image_spec) for photo in photos])
    images, texts = encoder.encode_pixels(pixels).embeddings, encoder.encode_texts(SENTENCES)
    np.testing.assert_allclose(inputs["pixel_values"].numpy(), pixels, atol=1e-5)
    np.testing.assert_allclose(found.image_embeds.numpy(), images, atol=1e-5)
    np.testing.assert_allclose(found.text_embeds.numpy(), texts, atol=1e-5)
    np.testing.assert_allclose(
        found.logits_per_image.numpy(), encoder.logit_scale * images @ texts.T, atol=1e-3
    )


def test_onnxruntime_gives_the_same_vectors(shared: Shared, encoder: OnnxEncoder) -> None:
    """By the settings in the folder, as the card says it."""
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(shared.directory)
    tokens = tokenizer(list(SENTENCES), padding=True, truncation=True, return_tensors="np")
    session = ort.InferenceSession(shared.directory / "onnx/text_model.onnx")
    (texts,) = session.run(None, {name: tokens[name] for name in ("input_ids", "attention_mask")})
    np.testing.assert_allclose(unit_rows(texts), encoder.encode_texts(SENTENCES), atol=1e-5)
    processor: Any = AutoImageProcessor.from_pretrained(shared.directory, use_fast=False)
    pixels = processor(probe_photos()[:3], return_tensors="np")["pixel_values"]
    session = ort.InferenceSession(shared.directory / "onnx/vision_model.onnx")
    (images,) = session.run(None, {"pixel_values": np.stack(pixels)})
    expected = encoder.encode_pixels(np.stack(pixels)).embeddings
    np.testing.assert_allclose(unit_rows(images), expected, atol=1e-5)


def test_pull_reads_the_graphs_again(shared: Shared, encoder: OnnxEncoder, tmp_path: Path) -> None:
    model = read_transformers_js(shared.directory, list(shared.files), "float32")
    again = OnnxEncoder.open(bundle_of(model, tmp_path / "again", Label("again", "MIT", {})))
    texts = again.encode_texts(SENTENCES)
    np.testing.assert_allclose(texts, encoder.encode_texts(SENTENCES), atol=1e-5)
    assert again.image_spec == encoder.image_spec
    assert again.logit_scale == pytest.approx(encoder.logit_scale, rel=1e-5)


def test_the_card_tells_how_and_no_file_tells_where(shared: Shared, run: Path) -> None:
    card = (shared.directory / "README.md").read_text()
    assert "VisionTextDualEncoderModel.from_pretrained" in card
    for name in ("README.md", "config.json", "tokenizer_config.json"):
        assert str(run.parent) not in (shared.directory / name).read_text()


def test_a_run_that_format_cannot_say_is_shared_as_graphs_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, image="resnet")
    train(recipe, ["train.passes=1"], tmp_path / "run")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["share", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--json"])
    assert not ended.value.code
    said = json.loads(capsys.readouterr().out)
    assert said["vision_text_dual_encoder"] is False
    assert "text tower pools its tokens by 'mean'" in said["reason"]
    assert "onnx/vision_model.onnx" in said["files"]
    assert "model.safetensors" not in said["files"]
    assert said["size_bytes"] == sum(said["files"].values())


def test_an_occupied_place_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis").touch()
    with pytest.raises(ConfigError, match="out exists"):
        share_run(tmp_path / "no run", tmp_path / "out")
