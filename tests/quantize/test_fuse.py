"""Attention and patches in fewer steps: found in every spelling, and never where they are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from miniclip.errors import ExportError
from miniclip.quantize.fuse import fuse_attention, patches_as_product
from tests.quantize.running import kinds, parsed, pixels, run, tokens
from tests.quantize.tiny_transformer import HEADS, Habits, image_graph, text_graph


@pytest.mark.parametrize("scale_by", ["mul", "div"])
@pytest.mark.parametrize("folded", [False, True])
def test_attention_becomes_one_operator_with_the_same_vectors(scale_by: str, folded: bool) -> None:
    plain = image_graph(Habits(scale_by=scale_by, folded=folded))
    graph = parsed(plain)
    assert fuse_attention(graph) == 1
    fused = graph.to_bytes()
    assert kinds(fused)["MultiHeadAttention"] == 1
    assert kinds(fused)["Softmax"] == 0
    np.testing.assert_allclose(run(fused, pixels(3)), run(plain, pixels(3)), atol=2e-6)


def test_attention_under_a_mask_too_and_heads_are_counted_where_the_graph_leaves_them_open() -> (
    None
):
    plain = text_graph()
    graph = parsed(plain)
    assert fuse_attention(graph) == 1
    (attention,) = (node for node in graph.nodes if node.op_type == "MultiHeadAttention")
    assert {entry.name: entry.i for entry in attention.attribute}["num_heads"] == HEADS
    assert kinds(graph.to_bytes())["IsNaN"] == 0
    np.testing.assert_allclose(run(graph.to_bytes(), tokens()), run(plain, tokens()), atol=2e-6)


@pytest.mark.parametrize("watched", ["Softmax", "MatMul scores"])
def test_attention_is_left_alone_where_its_inside_is_asked_for(watched: str) -> None:
    graph = parsed(image_graph())
    (softmax,) = (node for node in graph.nodes if node.op_type == "Softmax")
    if watched == "Softmax":
        graph.watch([softmax.output[0]])
        assert fuse_attention(graph) == 0
    else:  # the scores may be read as well: they are still computed
        graph.watch([softmax.input[0]])
        assert fuse_attention(graph) == 1
        assert kinds(graph.to_bytes())["MultiHeadAttention"] == 1
        assert softmax.input[0] in {port.name for port in graph.to_model().graph.output}


def test_a_softmax_over_classes_is_no_attention() -> None:
    graph = parsed(_graph([helper.make_node("Softmax", ["pixels"], ["embedding"], axis=-1)]))
    assert fuse_attention(graph) == 0


def test_patches_become_a_product_with_the_same_vectors() -> None:
    plain = image_graph()
    graph = parsed(plain)
    assert patches_as_product(graph) == 1
    assert kinds(graph.to_bytes())["Conv"] == 0
    np.testing.assert_allclose(run(graph.to_bytes(), pixels(3)), run(plain, pixels(3)), atol=2e-6)


@pytest.mark.parametrize(
    "habit",
    [
        {"strides": [4, 4]},  # patches that overlap
        {"strides": [8, 8], "pads": [1, 1, 1, 1]},
        {"strides": [8, 8], "dilations": [2, 2]},
        {"strides": [16, 16]},  # patches with gaps
    ],
)
def test_other_convolutions_stay(habit: dict[str, list[int]]) -> None:
    kernel = np.ones((4, 3, 8, 8), dtype=np.float32)
    node = helper.make_node("Conv", ["pixels", "kernel"], ["embedding"], **habit)
    assert patches_as_product(parsed(_graph([node], kernel=kernel))) == 0


def test_a_weight_stored_in_float16_is_a_weight() -> None:
    kernel = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["kernel"], ["restored"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "restored"], ["embedding"], strides=[8, 8]),
    ]
    content = _graph(nodes, kernel=kernel)
    graph = parsed(content)
    assert patches_as_product(graph) == 1
    np.testing.assert_allclose(run(graph.to_bytes(), pixels(2)), run(content, pixels(2)), atol=1e-5)


def test_a_graph_with_branches_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["embedding"], then_branch=branch, else_branch=branch)
    with pytest.raises(ExportError, match="leave this tower as it is"):
        parsed(_graph([node], yes=np.array(True)))


def _graph(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content
