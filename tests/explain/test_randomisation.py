"""Shuffled weights must give other maps; a method that only looks at the picture is caught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from scipy.stats import spearmanr

from miniclip.arrays import FloatArray
from miniclip.bundle import Bundle
from miniclip.errors import BundleError
from miniclip.explain.explanation import DEFAULT, METHODS
from miniclip.explain.planted import PlantedEncoder, planted
from miniclip.explain.randomisation import (
    check_bundle,
    check_randomisation,
    rank_correlation,
    write_shuffled,
)
from miniclip.explain.subject import Subject
from miniclip.explain.weights import shuffle_weights
from miniclip.onnx_encoder import OnnxEncoder
from tests.tiny_bundle import image_graph, images_alone


def edges(subject: Subject, seed: int) -> FloatArray:
    """Explain nothing: where the picture has edges, whatever the model is."""
    grey = np.asarray(subject.image.convert("L").resize((14, 14)), dtype=np.float32)
    return np.asarray(np.hypot(*np.gradient(grey)), dtype=np.float32)


def other_models() -> tuple[PlantedEncoder, PlantedEncoder, list[Image.Image]]:
    """Give a model of one quadrant, one of another, and pictures for the first."""
    ones = list(planted("quadrant", 24))
    first = ones[0].encoder
    other = next(one.encoder for one in ones if (one.encoder.regions & ~first.regions).any())
    pictures = [one.image for one in ones if (one.encoder.regions == first.regions).all()]
    return first, other, pictures[:4]


def test_the_default_passes_and_an_edge_detector_fails() -> None:
    model, other, pictures = other_models()
    kept = check_randomisation(model, other, pictures, METHODS[DEFAULT])
    assert kept.passed
    assert "passed" in str(kept)

    caught = check_randomisation(model, other, pictures, edges)
    assert caught.mean == pytest.approx(1)
    assert not caught.passed
    assert "FAILED" in str(caught)
    assert caught.to_dict()["passed"] is False


def test_rank_correlation_is_that_of_scipy() -> None:
    one, other = np.random.default_rng(0).integers(9, size=(2, 14, 14)).astype(np.float32)
    expected = spearmanr(one.ravel(), other.ravel()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert rank_correlation(one, np.zeros_like(one)) == 0


def test_weights_are_shuffled_within_tensors_and_all_else_stays() -> None:
    graph = image_graph()
    other, tensors = shuffle_weights(graph, seed=1)
    assert tensors == 2
    assert len(other) == len(graph)
    before, after = (_weights(data) for data in (graph, other))
    assert before.keys() == after.keys()
    for name, weights in before.items():
        np.testing.assert_array_equal(np.sort(weights, None), np.sort(after[name], None))
    assert not np.array_equal(before["projection"], after["projection"])


def test_weights_in_constants_and_packed_floats_are_found() -> None:
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    constant = onnx.helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights))
    packed = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, (3, 4), weights.ravel().tolist())
    halves = numpy_helper.from_array(weights.astype(np.float16), "h")
    bias = numpy_helper.from_array(weights.ravel(), "b")
    graph = onnx.helper.make_graph([constant], "g", [], [], [packed, halves, bias])
    other, tensors = shuffle_weights(onnx.helper.make_model(graph).SerializeToString())
    read = onnx.load_from_string(other).graph
    found = [*read.initializer, read.node[0].attribute[0].t]
    assert tensors == 3
    for tensor in found:
        values = numpy_helper.to_array(tensor)
        assert np.array_equal(values, weights.reshape(values.shape)) == (tensor.name == "b")
        assert sorted(values.ravel()) == sorted(weights.ravel())


def test_other_files_are_refused() -> None:
    with pytest.raises(BundleError, match="no ONNX file"):
        shuffle_weights(b"\x3a\xff\x01 not a graph")


def test_a_bundle_is_checked_once_and_remembered(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path))
    opened: list[str] = []

    def open_encoder(bundle: Bundle) -> OnnxEncoder:
        opened.append(bundle.name)
        return OnnxEncoder.open(bundle)

    pictures = [one.image for one in planted("quadrant", 2)]
    encoder = OnnxEncoder.open(tiny_bundle)
    first = check_bundle(tiny_bundle, encoder, open_encoder, pictures, DEFAULT)
    again = check_bundle(tiny_bundle, encoder, open_encoder, pictures, DEFAULT)
    assert first == again
    assert opened == ["tiny-shuffled"]
    assert first.interval.low <= first.mean <= first.interval.high


def test_a_graph_without_weights_cannot_be_checked(tmp_path: Path) -> None:

    bundle = images_alone(tmp_path / "alone")
    with pytest.raises(BundleError, match="nothing can be"):
        write_shuffled(bundle, tmp_path / "shuffled")


def _weights(graph: bytes) -> dict[str, np.ndarray]:
    tensors = onnx.load_from_string(graph).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
