"""Smaller weights: what rounding costs, and that the runtime undoes it once, at load."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from miniclip.errors import ExportError
from miniclip.train.export.small_weights import STORAGES, Storage, quantise, shrink

ROWS, WIDTH = 2000, 24
RNG = np.random.default_rng(0)
WEIGHTS = {
    "table": RNG.normal(size=(ROWS, WIDTH)).astype(np.float32),
    "kernel": RNG.normal(size=(WIDTH, 1, 4, 4)).astype(np.float32),
    "matrix": RNG.normal(size=(WIDTH, 32)).astype(np.float32),
    "transposed": RNG.normal(size=(16, 32)).astype(np.float32),
    "small": RNG.normal(size=(16,)).astype(np.float32),
}
IDS = np.array([[0, 7, 1999, 7]])


def graph() -> onnx.ModelProto:
    """Look up words, convolve over them, and go through both kinds of matrix product."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),  # (B, 4, WIDTH)
        helper.make_node("Unsqueeze", ["words", "one"], ["picture"]),
        helper.make_node("Conv", ["picture", "kernel"], ["convolved"], kernel_shape=[4, 4]),
        helper.make_node("ReduceMean", ["convolved", "last"], ["rows"], keepdims=0),
        helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
        helper.make_node("Gemm", ["product", "transposed", "small"], ["out"], transB=1),
    ]
    weights = {**WEIGHTS, "one": np.array([1]), "last": np.array([2, 3])}
    built = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 16])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **options: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    settings = ort.SessionOptions()
    for name, value in options.items():
        setattr(settings, name, value)
    settings.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    (out,) = session.run(None, {"ids": IDS})
    return np.asarray(out)


def by_hand(weights: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    words = weights["table"][IDS[0]].astype(np.float64)
    width = words.shape[1] - 3
    rows = np.array(
        [
            np.mean([(words[:, x : x + 4] * kernel[0]).sum() for x in range(width)])
            for kernel in weights["kernel"]
        ]
    )
    return np.asarray((rows @ weights["matrix"]) @ weights["transposed"].T + weights["small"])


def restored(values: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    small = quantise(values, axis)
    return small.values.astype(np.float32) * small.scales


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rounding_moves_a_weight_by_half_a_step_at_most(axis: int) -> None:
    weight = WEIGHTS["matrix"] * np.logspace(-4, 4, 32, dtype=np.float32)
    small = quantise(weight, axis)
    assert small.values.dtype == np.int8
    assert (np.abs(small.values * small.scales - weight) <= small.scales * 0.5001).all()
    assert np.abs(small.values).max() == 127
    others = 1 if axis == 0 else 0
    assert small.scales.shape[others] == 1


def test_rows_of_zeros_stay_zeros() -> None:
    small = quantise(np.zeros((3, 4), dtype=np.float32), axis=0)
    assert not (small.values * small.scales).any()


def test_each_storage_computes_with_the_weights_that_it_promises() -> None:
    halves = {n: w.astype(np.float16).astype(np.float32) for n, w in WEIGHTS.items()}
    halves["small"] = WEIGHTS["small"]  # too few values to be worth it
    table = {**halves, "table": restored(WEIGHTS["table"], 0)}
    expected = {
        "float32": WEIGHTS,
        "float16": halves,
        "int8-embeddings": table,
        "int8": table
        | {
            "kernel": restored(WEIGHTS["kernel"], 0),
            "matrix": restored(WEIGHTS["matrix"], 1),
            "transposed": restored(WEIGHTS["transposed"], 0),
        },
    }
    for storage in STORAGES:
        found = run(shrink(graph(), storage))
        np.testing.assert_allclose(found[0], by_hand(expected[storage]), rtol=2e-4, atol=2e-4)


def test_each_storage_is_smaller_than_the_one_before() -> None:
    sizes = [shrink(graph(), storage).ByteSize() for storage in STORAGES]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_runtime_restores_weights_when_it_loads_and_not_when_it_runs(
    storage: Storage, tmp_path: Path
) -> None:
    """What is left of the restoring is the cast and the product of the rows looked up."""
    path = tmp_path / "optimised.onnx"
    run(shrink(graph(), storage), optimized_model_filepath=str(path))
    left = Counter(node.op_type for node in onnx.load(path).graph.node)
    looked_up = 1 if storage.startswith("int8") else 0
    assert left["Cast"] == looked_up
    assert left["Mul"] == looked_up
    assert left["Gather"] == 1 + looked_up


def test_the_given_graph_is_not_touched() -> None:
    given = graph()
    before = given.SerializeToString()
    shrink(given, "int8")
    assert given.SerializeToString() == before


def test_a_weight_that_two_nodes_use_differently_is_only_halved() -> None:
    shared = graph()
    shared.graph.node.append(helper.make_node("Transpose", ["matrix"], ["turned"]))
    stored = {t.name for t in shrink(shared, "int8").graph.initializer}
    assert "matrix.float16" in stored
    assert "transposed.int8" in stored


def test_a_value_too_large_for_float16_stays_in_float32() -> None:
    large = graph()
    weight = WEIGHTS["matrix"].copy()
    weight[0, 0] = 1e6
    for tensor in large.graph.initializer:
        if tensor.name == "matrix":
            tensor.CopyFrom(numpy_helper.from_array(weight, "matrix"))
    small = shrink(large, "float16")
    assert np.isfinite(run(small)).all()
    assert "matrix" in {tensor.name for tensor in small.graph.initializer}


def test_an_unknown_storage_is_refused() -> None:
    with pytest.raises(ExportError, match="weights are 'int4'; choose one of float32"):
        shrink(graph(), "int4")  # type: ignore[arg-type]
