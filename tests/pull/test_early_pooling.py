"""What only one token is read of is computed for that token alone, and the numbers stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from miniclip.pull.early_pooling import pool_early

TOKENS, CHANNELS = 5, 4
FIRST = helper.make_node("Gather", ["last", "first"], ["pooled"], axis=1)
OF_EACH = helper.make_node("GatherND", ["last", "places"], ["pooled"])


def block(pick: onnx.NodeProto, *, norm_axis: int = -1, tap: bool = False) -> onnx.ModelProto:
    """Mix tokens, then work on each by itself as a transformer does, then pick one."""
    random = np.random.default_rng(0)
    weights = {
        "mix": random.normal(size=(TOKENS, TOKENS)),
        "wide": random.normal(size=(CHANNELS, 2 * CHANNELS)),
        "bias": random.normal(size=2 * CHANNELS),
        "narrow": random.normal(size=(2 * CHANNELS, CHANNELS)),
        "scale": random.normal(size=CHANNELS),
        "shift": random.normal(size=CHANNELS),
    }
    axis = {"axis": norm_axis}
    nodes = [
        helper.make_node("MatMul", ["mix", "given"], ["mixed"]),
        helper.make_node("Add", ["given", "mixed"], ["inner"]),
        helper.make_node("LayerNormalization", ["inner", "scale", "shift"], ["normed"], **axis),
        helper.make_node("MatMul", ["normed", "wide"], ["widened"]),
        helper.make_node("Add", ["widened", "bias"], ["biased"]),
        helper.make_node("Sigmoid", ["biased"], ["gate"]),
        helper.make_node("Mul", ["biased", "gate"], ["active"]),
        helper.make_node("MatMul", ["active", "narrow"], ["narrowed"]),
        helper.make_node("Add", ["inner", "narrowed"], ["last"]),
        pick,
    ]
    outputs = [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["B", CHANNELS])]
    if tap:
        shape = ["B", TOKENS, 2 * CHANNELS]
        outputs.append(helper.make_tensor_value_info("biased", TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        nodes,
        "block",
        [
            helper.make_tensor_value_info("given", TensorProto.FLOAT, ["B", TOKENS, CHANNELS]),
            helper.make_tensor_value_info("places", TensorProto.INT64, ["B", 2]),
        ],
        outputs,
        [
            numpy_helper.from_array(np.array(2), "first"),
            *(numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def outputs_of(model: onnx.ModelProto) -> Sequence[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    feeds = {
        "given": random.normal(size=(3, TOKENS, CHANNELS)).astype(np.float32),
        "places": np.array([(0, 4), (1, 0), (2, 3)]),
    }
    found: Sequence[NDArray[np.float32]] = ReferenceEvaluator(model).run(None, feeds)
    return found


def shapes_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}


@pytest.mark.parametrize("pick", [FIRST, OF_EACH], ids=["one place", "a place of each"])
@pytest.mark.parametrize("norm_axis", [-1, 2])
def test_the_work_moves_behind_the_choice_and_the_numbers_stay(
    pick: onnx.NodeProto, norm_axis: int
) -> None:
    model = block(pick, norm_axis=norm_axis)
    before = outputs_of(model)[0]
    pool_early(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(outputs_of(model)[0], before, atol=1e-6)
    ranks = shapes_of(model)
    assert ranks["mixed"] == 3
    assert {ranks[name] for name in ("normed", "widened", "active", "narrowed", "last")} == {2}


def test_what_someone_else_reads_stays_where_it_is() -> None:
    model = block(FIRST, tap=True)
    before = outputs_of(model)
    pool_early(model)
    ranks = shapes_of(model)
    assert ranks["normed"] == 3
    assert ranks["narrowed"] == 2
    for found, expected in zip(outputs_of(model), before, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_choice_of_channels_is_left_alone() -> None:
    model = block(helper.make_node("Gather", ["last", "first"], ["pooled"], axis=2))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = TOKENS
    before = model.SerializeToString()
    pool_early(model)
    assert model.SerializeToString() == before


def test_a_mean_of_tokens_is_left_alone() -> None:
    mean = helper.make_node("ReduceMean", ["last", "axes"], ["pooled"], keepdims=0)
    model = block(mean)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    kinds = Counter(node.op_type for node in model.graph.node)
    pool_early(model)
    assert Counter(node.op_type for node in model.graph.node) == kinds
