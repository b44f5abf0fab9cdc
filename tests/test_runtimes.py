"""Whichever runtime runs a bundle: the same vectors, the same refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle, write_bundle
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ConfigError, MissingExtraError
from miniclip.home import cache_dir
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.parity import encode_probes, write_parity
from miniclip.runtimes import RUNTIMES, load_encoder, open_encoder
from tests.tiny_bundle import COLOURS, IMAGE_SPEC, MANIFEST, images_alone, tiny_files

SENTENCES = [*COLOURS, "a photo of a red square and the blue picture", ""]


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param != "onnxruntime":
        pytest.importorskip("openvino")
    return str(request.param)


def photos() -> np.ndarray:
    squares = [Image.new("RGB", (50, 40), colour) for colour in COLOURS.values()]
    return np.stack([preprocess(square, IMAGE_SPEC) for square in squares])


def test_vectors_are_those_of_the_default_runtime(tiny_bundle: Bundle, runtime: str) -> None:
    expected, found = OnnxEncoder.open(tiny_bundle), open_encoder(tiny_bundle, runtime=runtime)
    assert isinstance(found, Encoder)
    assert found.fingerprint == expected.fingerprint
    tolerance = 1e-2 if runtime == "openvino" else 1e-5  # it may compute in bfloat16
    for want, got in zip(
        expected.encode_pixels(photos()), found.encode_pixels(photos()), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=tolerance)
    np.testing.assert_allclose(
        found.encode_texts(SENTENCES), expected.encode_texts(SENTENCES), atol=tolerance
    )


def test_a_result_outlives_the_next_run(tiny_bundle: Bundle, runtime: str) -> None:
    encoder = open_encoder(tiny_bundle, runtime=runtime)
    first = encoder.encode_pixels(photos()).features
    kept = first.copy()
    encoder.encode_pixels(np.zeros_like(photos()))
    np.testing.assert_array_equal(first, kept)


def test_an_environment_variable_chooses(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("MINICLIP_RUNTIME", "openvino-float32")
    assert type(load_encoder(tiny_bundle.directory)).__name__ == "OpenvinoEncoder"
    assert type(load_encoder(tiny_bundle.directory, runtime="onnxruntime")) is OnnxEncoder


def test_an_unknown_runtime_is_refused_by_name(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"no runtime 'tensorrt'; choose one of onnxruntime"):
        open_encoder(tiny_bundle, runtime="tensorrt")


def test_a_runtime_that_is_not_installed_says_what_to_install(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.delitem(__import__("sys").modules, "miniclip.openvino_encoder", raising=False)
    with pytest.raises(MissingExtraError, match=r"miniclip\[openvino\]"):
        open_encoder(tiny_bundle, runtime="openvino")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: files | {"image.onnx": b"no graph"}, "does not load"),
        (lambda files: files | {"image.onnx": files["text.onnx"]}, "has the inputs"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(
    tmp_path: Path,
    runtime: str,
    damage: Callable[[dict[str, bytes]], dict[str, bytes]],
    message: str,
) -> None:
    bundle = write_bundle(tmp_path / "tiny", manifest=MANIFEST, files=damage(tiny_files()))
    with pytest.raises(BundleError, match=message):
        open_encoder(bundle, runtime=runtime).encode_pixels(photos())


def test_a_bundle_that_gives_other_vectors_here_is_refused(
    tmp_path: Path, tiny_bundle: Bundle, runtime: str
) -> None:
    encoder = OnnxEncoder.open(tiny_bundle)
    said = encode_probes(encoder)
    bundle = write_parity(tmp_path / "good", tiny_bundle, said, encoder)
    assert open_encoder(bundle, runtime=runtime).name == "tiny"
    lying = dataclasses.replace(said, images=-said.images)
    files = {name: bundle.path(name) for name in bundle.files}
    broken = write_bundle(
        tmp_path / "broken",
        manifest=bundle.manifest,
        files=files | {"parity.npz": lying.to_bytes()},
    )
    with pytest.raises(BundleError, match="does not give on this machine the vectors"):
        open_encoder(broken, runtime=runtime)


def test_whether_a_model_bears_bfloat16_is_measured_once(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openvino_encoder = pytest.importorskip("miniclip.openvino_encoder")
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_encoder, "_processor_has_bfloat16", lambda: True)
    chosen = openvino_encoder.OpenvinoEncoder.open(tiny_bundle).bfloat16
    marks = list((cache_dir() / "bfloat16").iterdir())
    assert [mark.read_text() for mark in marks] == ["yes" if chosen else "no"]
    monkeypatch.setattr(openvino_encoder, "encode_probes", None)  # and is not asked again
    assert openvino_encoder.OpenvinoEncoder.open(tiny_bundle).bfloat16 == chosen


def test_a_model_that_loses_too_much_stays_in_float32(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openvino_encoder = pytest.importorskip("miniclip.openvino_encoder")
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_encoder, "_processor_has_bfloat16", lambda: True)
    monkeypatch.setattr(openvino_encoder, "MIN_LOSSY_COSINE", 1.1)  # which nothing reaches
    assert not openvino_encoder.OpenvinoEncoder.open(tiny_bundle).bfloat16


def test_images_alone_run_too(tmp_path: Path, runtime: str) -> None:
    encoder = open_encoder(images_alone(tmp_path / "images"), runtime=runtime)
    assert len(encoder.encode_pixels(photos()).embeddings) == len(COLOURS)
    with pytest.raises(BundleError, match="has no text tower"):
        encoder.encode_texts(["red"])
