"""Ready-made ONNX layouts against the library whose models they were exported from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import Bundle
from miniclip.errors import BundleError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.immich import read_immich
from miniclip.pull.parity import ProbeVectors, encode_probes
from miniclip.pull.ready_made import Label, bundle_of
from miniclip.pull.transformers_js import read_transformers_js

pytest.importorskip("transformers")
from miniclip.train.convert.checkpoint import read_checkpoint
from tests.foreign_layouts import edit_json, immich, names_of, transformers_js
from tests.hub_checkpoints import checkpoint

pytestmark = pytest.mark.train

LABEL = Label("pulled", "MIT", {"source": "a test"}, card="# A model\n")
SCALE = 14.3
JS_KINDS = {  # kind -> how its graphs come
    "clip": {"split": True, "combined": True},
    "siglip-2-fixed": {"split": True, "combined": True},
    "chinese_clip": {"split": False, "combined": True},
    "vision-text-dual-encoder": {"split": False, "combined": True},
}


@pytest.fixture(scope="module")
def home_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def checkpoint_of(home_of_module: Path) -> Callable[[str], Path]:
    """Give a checkpoint, made once."""

    def get(kind: str) -> Path:
        directory = home_of_module / "checkpoints" / kind
        return directory if directory.exists() else checkpoint(kind, directory)

    return get


@pytest.fixture(scope="module")
def js_of(home_of_module: Path, checkpoint_of: Callable[[str], Path]) -> Callable[[str], Path]:
    """Give the layout of transformers.js, made once; do not alter it."""

    def get(kind: str) -> Path:
        directory = home_of_module / "js" / kind
        if not directory.exists():
            transformers_js(checkpoint_of(kind), directory, **JS_KINDS[kind])
        return directory

    return get


@pytest.fixture(scope="module")
def immich_clip(home_of_module: Path, checkpoint_of: Callable[[str], Path]) -> Path:
    return immich(checkpoint_of("clip"), home_of_module / "immich")


def pull_js(directory: Path, out: Path, **options: Any) -> Bundle:
    model = read_transformers_js(directory, names_of(directory), "float32", **options)
    return bundle_of(model, out, LABEL)


def pull_immich(directory: Path, out: Path, **options: Any) -> Bundle:
    options = {"logit_scale": SCALE} | options
    return bundle_of(read_immich(directory, names_of(directory), "float32", **options), out, LABEL)


def least_cosine(one: FloatArray | None, other: FloatArray | None) -> float:
    assert one is not None
    assert other is not None
    return float((np.float64(unit_rows(one)) * np.float64(unit_rows(other))).sum(1).min())


def assert_same(found: ProbeVectors, original: ProbeVectors) -> None:
    assert least_cosine(found.images, original.images) >= 0.99999
    assert least_cosine(found.features, original.features) >= 0.99999
    assert least_cosine(found.texts, original.texts) >= 0.99999
    assert np.abs(found.images - original.images).max() < 1e-5


@pytest.mark.parametrize("kind", JS_KINDS)
def test_graphs_of_transformers_js_give_the_vectors_of_the_library(
    kind: str, js_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its own processor and model, from the checkpoint that the graphs were exported from."""
    original = read_checkpoint(checkpoint_of(kind))

    bundle = pull_js(js_of(kind), tmp_path / "bundle")

    assert_same(encode_probes(OnnxEncoder.open(bundle)), original.original.encode_probes())
    assert bundle.manifest.feature_dim == 128
    assert bundle.manifest.image == original.image_spec
    assert bundle.manifest.logit_scale == pytest.approx(original.logit_scale, rel=1e-5)
    assert bundle.manifest.logit_bias == pytest.approx(original.logit_bias, abs=1e-4)
    assert bundle.path("model_card.md").read_text() == "# A model\n"


def test_graphs_of_immich_give_the_vectors_of_the_library(
    immich_clip: Path, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """They take one int32 text or one photo at a time; the bundle takes any number."""
    original = read_checkpoint(checkpoint_of("clip")).original.encode_probes()

    bundle = pull_immich(immich_clip, tmp_path / "bundle")

    assert_same(encode_probes(OnnxEncoder.open(bundle)), original)
    assert bundle.manifest.feature_dim == 128
    assert bundle.manifest.logit_scale == SCALE
    text = bundle.manifest.text
    assert text is not None
    assert (text.pad, text.context_length) == ("max", 77)


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", {"model_type": None}, "config.json does not say 'model_type'"),
        ("config.json", {"model_type": "owlvit"}, "config.json says model_type = 'owlvit'"),
        ("config.json", {"text_config": None}, "config.json does not say 'text_config'"),
        ("config.json", {"vision_config": None}, "config.json does not say 'vision_config'"),
        ("config.json", {"projection_dim": 64}, "projection_dim is 64, but .* gives 48"),
        ("config.json", {"vision_config": {"image_size": 48}}, "image_size = 48"),
        (
            "config.json",
            {"text_config": {"max_position_embeddings": 64}},
            "max_position_embeddings = 64, tokenizer_config.json: model_max_length = 77",
        ),
        ("config.json", {"text_config": {"vocab_size": 400}}, "vocab_size = 400, onnx/text_model"),
        ("preprocessor_config.json", {"resample": None}, "does not say 'resample'"),
        ("preprocessor_config.json", {"image_mean": None}, "does not say 'image_mean'"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 16}}, "smaller than side"),
        ("preprocessor_config.json", {"crop_size": 24}, "makes pictures of 24"),
        ("preprocessor_config.json", {"do_pad_now": True}, "do_pad_now"),
        ("preprocessor_config.json", {"image_mean": [0.4, 0.4, 0.4]}, "accept image_mean"),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5, 0.5]}, "accept image_std"),
        ("preprocessor_config.json", {"resample": 2}, "accept resample"),
        ("preprocessor_config.json", {"do_normalize": False}, "accept do_normalize"),
        ("tokenizer_config.json", {"pad_token": None}, "does not say 'pad_token'"),
        ("tokenizer_config.json", {"pad_token": "<none>"}, "pad_token = '<none>'"),
        ("tokenizer_config.json", {"bos_token": None}, "does not say 'bos_token'"),
        ("tokenizer_config.json", {"eos_token": "<|startoftext|>"}, "bos_token, eos_token"),
        ("tokenizer_config.json", {"model_max_length": 76}, "model_max_length = 76"),
        ("tokenizer_config.json", {"do_lower_case": False}, "do_lower_case = False"),
        ("tokenizer_config.json", {"add_eos_token": False}, "add_eos_token = False"),
        ("tokenizer.json", {"post_processor": None}, "turns an empty text into"),
        ("tokenizer.json", {"model": None}, "no readable tokenizer"),
        ("tokenizer.json", {"normalizer": None}, "check its normalizer"),
        ("tokenizer.json", {"pre_tokenizer": None}, "check its pre_tokenizer"),
    ],
)
def test_an_altered_key_of_transformers_js_is_refused_by_name(
    file: str,
    change: dict[str, Any],
    named: str,
    js_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    directory = shutil.copytree(js_of("clip"), tmp_path / "altered")
    edit_json(directory / file, **change)

    with pytest.raises(BundleError, match=named):
        pull_js(directory, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("part", "value"), [("end_of_word_suffix", ""), ("merges", []), ("merges", None)]
)
def test_a_vocabulary_that_is_not_put_to_use_is_refused(
    part: str, value: Any, js_of: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = shutil.copytree(js_of("clip"), tmp_path / "altered")
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    edit_json(directory / "tokenizer.json", model={**model, part: value})
    with pytest.raises(BundleError, match=rf"check its model\.{part}|no readable tokenizer"):
        pull_js(directory, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", {"embed_dim": None}, "config.json does not say 'embed_dim'"),
        ("config.json", {"embed_dim": 64}, "embed_dim is 64, but .* gives 48"),
        ("config.json", {"text_cfg": None}, "does not say 'text_cfg'"),
        ("config.json", {"text_cfg": {}}, "text_cfg does not say 'context_length'"),
        ("config.json", {"text_cfg": {"context_length": 64}}, "context_length = 64, textual"),
        (
            "config.json",
            {"text_cfg": {"context_length": 77, "tokenizer_kwargs": {"clean": "lower"}}},
            "clean = 'lower'",
        ),
        (
            "config.json",
            {"text_cfg": {"context_length": 77, "tokenizer_kwargs": {"strip_sep_token": True}}},
            "strip_sep_token",
        ),
        ("config.json", {"vision_cfg": {"image_size": 48}}, "image_size = 48"),
        *(
            ("visual/preprocess_cfg.json", {key: None}, f"does not say '{key}'")
            for key in ("size", "mode", "mean", "std", "interpolation", "resize_mode")
        ),
        ("visual/preprocess_cfg.json", {"resize_mode": "longest"}, "resize_mode = 'longest'"),
        ("visual/preprocess_cfg.json", {"interpolation": "random"}, "interpolation is 'random'"),
        ("visual/preprocess_cfg.json", {"interpolation": "bilinear"}, "accept interpolation"),
        ("visual/preprocess_cfg.json", {"mean": [0.4, 0.4, 0.4]}, "accept mean"),
        ("visual/preprocess_cfg.json", {"std": [0.5, 0.5, 0.5]}, "accept std"),
        ("visual/preprocess_cfg.json", {"mode": "BGR"}, "mode = 'BGR'"),
        ("visual/preprocess_cfg.json", {"size": [32, 48]}, r"size = \[32, 48\]"),
        ("visual/preprocess_cfg.json", {"resize_mode": "squash"}, "accept resize_mode"),
        ("textual/tokenizer_config.json", {"pad_token": None}, "does not say 'pad_token'"),
        ("textual/tokenizer.json", {"normalizer": None}, "check its normalizer"),
    ],
)
def test_an_altered_key_of_immich_is_refused_by_name(
    file: str, change: dict[str, Any], named: str, immich_clip: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(immich_clip, tmp_path / "altered")
    edit_json(directory / file, **change)

    with pytest.raises(BundleError, match=named):
        pull_immich(directory, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("onnx/text_model.onnx", "both towers in float32, but onnx/vision_model.onnx"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("tokenizer_config.json", "has no tokenizer_config.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("config.json", "has no config.json"),
    ],
)
def test_a_missing_file_is_refused_by_name(
    without: str, named: str, js_of: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = shutil.copytree(js_of("clip"), tmp_path / "less")
    (directory / without).unlink()
    (directory / "onnx" / "model.onnx").unlink()
    with pytest.raises(BundleError, match=named):
        read_transformers_js(directory, names_of(directory), "float32", logit_scale=1)


# The scale of the logits


def test_without_a_word_on_the_scale_somebody_must_say_it(
    js_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """It may stand at the end of a graph of both towers, or in weights beside the graphs."""
    directory = shutil.copytree(js_of("clip"), tmp_path / "split")
    (directory / "onnx" / "model.onnx").unlink()
    with pytest.raises(BundleError, match="--logit-scale"):
        pull_js(directory, tmp_path / "bundle")

    model = read_transformers_js(directory, names_of(directory), "float32", logit_scale=55.0)
    assert model.logits == (55.0, 0.0)

    shutil.copyfile(checkpoint_of("clip") / "model.safetensors", directory / "model.safetensors")
    model = read_transformers_js(directory, names_of(directory), "float32")
    assert model.logits.scale == pytest.approx(np.exp(2.6592), rel=1e-6)


def test_a_scale_that_contradicts_the_files_is_refused(
    js_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"--logit-scale is 100, but .* say 14\.28"):
        pull_js(js_of("clip"), tmp_path / "bundle", logit_scale=100.0)


# Other precisions, and weights in other files


def test_int8_graphs_are_taken_as_they_are(
    js_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Near to the original; the features are read before the rounding of the projection."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    directory = shutil.copytree(js_of("clip"), tmp_path / "quantised")
    for tower in ("vision", "text"):
        path = directory / "onnx" / f"{tower}_model.onnx"
        small = path.with_name(f"{tower}_model_quantized.onnx")
        quantize_dynamic(path, small, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
        path.unlink()

    names = [name for name in names_of(directory) if name != "onnx/model.onnx"]
    with pytest.raises(
        BundleError, match=r"no graphs of both towers in float32, .*--precision int8"
    ):
        read_transformers_js(directory, names, "float32", logit_scale=1)
    model = read_transformers_js(directory, names_of(directory), "int8")
    bundle = bundle_of(model, tmp_path / "bundle", LABEL)

    assert bundle.manifest.weights == {"image": "int8", "text": "int8"}
    assert bundle.manifest.feature_dim == 128
    original = read_checkpoint(checkpoint_of("clip")).original.encode_probes()
    found = encode_probes(OnnxEncoder.open(bundle))
    assert least_cosine(found.images, original.images) > 0.95
    assert least_cosine(found.features, original.features) > 0.95


def test_float16_graphs_get_float32_ports(
    js_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Weights, pixels and vectors are of 16 bits inside."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    directory = shutil.copytree(js_of("clip"), tmp_path / "half")
    for tower in ("vision", "text"):
        path = directory / "onnx" / f"{tower}_model.onnx"
        half = convert_float_to_float16(onnx.load(path), keep_io_types=False)
        onnx.save(half, path.with_name(f"{tower}_model_fp16.onnx"))

    model = read_transformers_js(directory, names_of(directory), "float16")
    bundle = bundle_of(model, tmp_path / "bundle", LABEL)

    original = read_checkpoint(checkpoint_of("clip")).original.encode_probes()
    found = encode_probes(OnnxEncoder.open(bundle))
    assert found.features.dtype == np.float32
    assert 0.999 < least_cosine(found.images, original.images) < 1
    assert least_cosine(found.texts, original.texts) > 0.999


def test_weights_in_other_files_are_taken_in_even_through_links(
    js_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """The cache of the hub is made of links, which onnx and onnxruntime do not follow."""
    blobs, directory = tmp_path / "blobs", shutil.copytree(js_of("clip"), tmp_path / "links")
    blobs.mkdir()
    for tower in ("vision", "text"):
        path = directory / "onnx" / f"{tower}_model.onnx"
        proto = onnx.load(path)
        path.unlink()
        onnx.save(
            proto, path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=0
        )
        for file in (path, path.with_name(f"{path.name}_data")):
            file.rename(blobs / file.name)
            file.symlink_to(blobs / file.name)

    bundle = pull_js(directory, tmp_path / "bundle")

    whole = pull_js(js_of("clip"), tmp_path / "whole")
    assert bundle.fingerprint == whole.fingerprint


def test_a_tower_of_another_model_is_refused(js_of: Callable[[str], Path], tmp_path: Path) -> None:
    directory = shutil.copytree(js_of("clip"), tmp_path / "mixed")
    model = read_transformers_js(directory, names_of(directory), "float32")
    siglip = js_of("siglip-2-fixed")
    other = read_transformers_js(siglip, names_of(siglip), "float32")
    with pytest.raises(BundleError, match=r"gives 48 numbers, but .* gives 128"):
        bundle_of(replace(model, text=other.text, texts=other.texts), tmp_path / "bundle", LABEL)


def test_a_graph_of_another_size_is_refused_by_name(immich_clip: Path, tmp_path: Path) -> None:
    """Even where both settings agree."""
    directory = shutil.copytree(immich_clip, tmp_path / "altered")
    edit_json(directory / "visual" / "preprocess_cfg.json", size=48)
    edit_json(directory / "config.json", vision_cfg={"image_size": 48})
    with pytest.raises(BundleError, match=r"takes pixels of shape .*32.* makes \(B, 3, 48, 48\)"):
        pull_immich(directory, tmp_path / "bundle")


def test_an_unusual_value_may_be_accepted_by_name(
    js_of: Callable[[str], Path], immich_clip: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(js_of("clip"), tmp_path / "js")
    edit_json(directory / "preprocessor_config.json", resample=2, image_mean=[0.4, 0.4, 0.4])
    spec = pull_js(directory, tmp_path / "one", accept=["resample", "image_mean"]).manifest.image
    assert (spec.interpolation, spec.mean) == ("bilinear", (0.4, 0.4, 0.4))

    directory = shutil.copytree(immich_clip, tmp_path / "immich")
    edit_json(directory / "visual" / "preprocess_cfg.json", std=[0.5, 0.5, 0.5])
    spec = pull_immich(directory, tmp_path / "two", accept=["std"]).manifest.image
    assert spec.std == (0.5, 0.5, 0.5)
