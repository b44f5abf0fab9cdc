"""Cutting, searching and looping graphs that are small enough to check by hand; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from miniclip.errors import BundleError
from miniclip.onnx_encoder import OnnxGraph
from miniclip.pull.foreign_towers import ForeignTower, load_graph
from miniclip.pull.graph_surgery import before_projection, cut_out, item_by_item
from miniclip.pull.logits import Logits, logits_of_graph, settle_logits

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(6, 4)).astype(np.float32),
    "v": RNG.normal(size=(5, 4)).astype(np.float32),
    "b": RNG.normal(size=4).astype(np.float32),
}
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: Sequence[str],
    weights: Mapping[str, NDArray[Any]] = WEIGHTS,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, ["B", None]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_towers() -> onnx.ModelProto:
    return model(
        [
            node("MatMul", "pictures w", "seen"),
            node("Relu", "words", "read"),
            node("MatMul", "read v", "said"),
            node("Add", "seen said", "both"),
        ],
        {"pictures": (FLOAT, ["B", 6]), "words": (FLOAT, ["B", 5])},
        ["seen", "said", "both"],
    )


def run(
    proto: onnx.ModelProto, tmp_path: Path, feeds: dict[str, NDArray[np.generic]], output: str
) -> NDArray[np.float32]:
    onnx.checker.check_model(proto, full_check=True)
    path = tmp_path / "graph.onnx"
    onnx.save(proto, path)
    kinds = {np.dtype(np.float32): "tensor(float)", np.dtype(np.int64): "tensor(int64)"}
    ports = {name: (kinds[array.dtype], (None,) * array.ndim) for name, array in feeds.items()}
    graph = OnnxGraph(path, 1, inputs=ports, outputs={output: ("tensor(float)", (None, None))})
    return graph.run(feeds)[0]


def test_a_part_takes_only_what_it_needs(tmp_path: Path) -> None:
    part = cut_out(two_towers(), ["said"])

    assert [value.name for value in part.graph.input] == ["words"]
    assert [tensor.name for tensor in part.graph.initializer] == ["v"]
    words = RNG.normal(size=(3, 5)).astype(np.float32)
    expected = np.maximum(words, 0) @ WEIGHTS["v"]
    assert run(part, tmp_path, {"words": words}, "said") == pytest.approx(expected, abs=1e-5)


def test_a_part_may_begin_in_the_middle() -> None:
    part = cut_out(two_towers(), ["both"], ["seen", "said"])
    assert [value.name for value in part.graph.input] == ["seen", "said"]
    assert [entry.op_type for entry in part.graph.node] == ["Add"]


def test_a_part_keeps_what_the_bodies_of_branches_take() -> None:
    """Names inside a branch come from the graph around it."""
    branches = {
        name: helper.make_graph(
            [node("Add", f"seen {weight}", f"{name}_out")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", FLOAT, None)],
        )
        for name, weight in (("then_branch", "b"), ("else_branch", "seen"))
    }
    proto = model(
        [node("MatMul", "pictures w", "seen"), node("If", "sure", "chosen", **branches)],
        {"pictures": (FLOAT, ["B", 6]), "sure": (TensorProto.BOOL, [])},
        ["chosen"],
    )
    part = cut_out(proto, ["chosen"])
    assert {entry.op_type for entry in part.graph.node} == {"MatMul", "If"}
    assert {tensor.name for tensor in part.graph.initializer} == {"w", "b"}


@pytest.mark.parametrize(
    ("ending", "features"),
    [
        ([node("MatMul", "x w", "y")], "x"),
        ([node("Gemm", "x w", "y")], "x"),
        ([node("Gemm", "x w b", "y")], None),  # a bias: no projection
        ([node("MatMul", "x w", "z"), node("Add", "z b", "y")], None),
        ([node("MatMul", "x turned", "y"), node("Transpose", "other", "turned")], "x"),
        ([node("MatMul", "x w", "z"), node("LpNormalization", "z", "y")], "x"),
        (
            [
                node("MatMul", "x w", "z"),
                node("ReduceL2", "z", "long", axes=[-1]),
                node("Div", "z long", "y"),
            ],
            "x",
        ),
        ([node("MatMul", "x x", "y")], None),  # of two activations, as in attention
        (
            [
                helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
                node("MatMulInteger", "q q_w zero zero_w", "whole"),
                node("Cast", "whole", "real", to=FLOAT),
                node("Mul", "scale scale_w", "factor"),
                node("Mul", "real factor", "y"),
            ],
            "x",
        ),
    ],
)
def test_features_are_what_the_projection_takes(
    ending: list[onnx.NodeProto], features: str | None
) -> None:
    held = {name: np.ones((2, 2), np.float32) for name in ("w", "b", "other", "q_w", "scale_w")}
    ending = sorted(ending, key=lambda entry: entry.op_type != "Transpose")
    nodes = [node("Relu", "input", "x"), *ending]
    proto = model(nodes, {"input": (FLOAT, [2, 2])}, ["y"], dict(held))
    assert before_projection(proto.graph, "y") == features


def test_a_graph_for_one_item_runs_over_a_batch(tmp_path: Path) -> None:
    """A softmax over everything would mix the items of a batch."""
    inner = model(
        [node("Softmax", "one/x", "soft", axis=-1), node("MatMul", "soft w", "one/y")],
        {"one/x": (FLOAT, [1, 6])},
        ["one/y"],
    )
    item_by_item(inner.graph, "one/")

    x = RNG.normal(size=(3, 6)).astype(np.float32)
    found = run(inner, tmp_path, {"x": x}, "y")

    exponents = np.exp(x)
    expected = exponents / exponents.sum(1, keepdims=True) @ WEIGHTS["w"]
    assert found == pytest.approx(expected, abs=1e-5)


# Towers


def text_tower(**port: tuple[int, list[int | str]]) -> onnx.ModelProto:
    return model(
        [
            node("Gather", "v input_ids", "rows"),
            node("ReduceMean", "rows", "y", axes=[1], keepdims=0),
        ],
        {"input_ids": (INT32, ["B", "T"]), **port},
        ["y"],
    )


def test_a_text_tower_gets_both_of_our_inputs_in_int64(tmp_path: Path) -> None:
    tower = ForeignTower.of(text_tower(), "onnx/text_model.onnx")
    ids = np.array([[0, 3], [4, 4]], dtype=np.int64)

    found = run(
        tower.text_graph(), tmp_path, {"input_ids": ids, "attention_mask": ids * 0 + 1}, "embedding"
    )

    assert found == pytest.approx(WEIGHTS["v"][ids].mean(1))
    assert tower.table_rows() == 5


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ({"input_ids": (FLOAT, ["B", "T"])}, r"takes 'input_ids' \(FLOAT\)"),
        ({"input_ids": (INT64, [8, "T"])}, "takes 8 items at a time"),
    ],
)
def test_unknown_inputs_are_refused(
    port: dict[str, tuple[int, list[int | str]]], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        ForeignTower.of(text_tower(**port), "onnx/text_model.onnx")


def test_an_input_that_nobody_knows_is_refused() -> None:
    proto = model([node("MatMul", "spatial w", "y")], {"spatial": (FLOAT, ["B", 6])}, ["y"])
    with pytest.raises(BundleError, match="takes 'spatial'"):
        ForeignTower.of(proto, "onnx/vision_model.onnx")


def test_the_embedding_must_be_there_by_name() -> None:
    with pytest.raises(BundleError, match="outputs seen, said, both; needed is image_embeds"):
        ForeignTower.of(two_towers(), "onnx/model.onnx", ["image_embeds"])
    with pytest.raises(BundleError, match="or one alone"):
        ForeignTower.of(two_towers(), "visual/model.onnx")


def test_an_image_tower_must_take_the_pixels_that_are_made() -> None:
    weights = {"flat": np.array([0, -1]), "k": np.ones((3 * 64, 2), np.float32)}
    nodes = [node("Reshape", "image flat", "row"), node("MatMul", "row k", "y")]
    proto = model(nodes, {"image": (FLOAT, ["B", 3, 8, 8])}, ["y"], dict(weights))
    tower = ForeignTower.of(proto, "visual/model.onnx")
    with pytest.raises(BundleError, match=r"makes \(B, 3, 16, 16\)"):
        tower.image_graph(16)
    with pytest.raises(BundleError, match="needed is input_ids"):
        tower.text_graph()


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph at all")
    with pytest.raises(BundleError, match="is no readable ONNX file"):
        load_graph(path)


def test_weights_in_another_folder_are_not_read(tmp_path: Path) -> None:
    """Else a model could show files of this machine to whoever sees its vectors."""
    proto = two_towers()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BundleError, match=r"'\.\./secret', which is in another folder"):
        load_graph(tmp_path / "model.onnx")


# The end of a graph of both towers


def ending(nodes: Sequence[onnx.NodeProto], logits: str = "logits_per_text") -> onnx.ModelProto:
    proto = model(
        [
            node("Identity", "pictures", "image_embeds"),
            node("Identity", "words", "text_embeds"),
            node("Transpose", "image_embeds", "columns", perm=[1, 0]),
            *nodes,
        ],
        {"pictures": (FLOAT, ["B", 2]), "words": (FLOAT, ["C", 2])},
        [logits, "text_embeds", "image_embeds"],
        {
            "log_scale": np.array(np.log(117.33), np.float32),
            "bias": np.array(-12.93, np.float32),
            "half": np.array([[1, 0.5], [0, 1]], np.float32),
        },
    )
    onnx.checker.check_model(proto)
    return proto


PRODUCT = node("MatMul", "text_embeds columns", "cosines")
SCALED = [PRODUCT, node("Exp", "log_scale", "scale"), node("Mul", "cosines scale", "scaled")]


def test_scale_and_bias_are_read_off_the_end() -> None:
    sigmoid = ending([*SCALED, node("Add", "scaled bias", "logits_per_text")])
    found = logits_of_graph(sigmoid)
    assert found is not None
    assert found.scale == pytest.approx(117.33, rel=1e-5)
    assert found.bias == pytest.approx(-12.93, rel=1e-5)

    softmax = ending(
        [*SCALED, node("Transpose", "scaled", "logits_per_image", perm=[1, 0])], "logits_per_image"
    )
    found = logits_of_graph(softmax)
    assert found is not None
    assert found == pytest.approx((117.33, 0.0), rel=1e-5)


def test_an_end_that_is_no_scaled_cosine_tells_nothing() -> None:
    bent = ending([*SCALED, node("Tanh", "scaled", "logits_per_text")])
    mixed = ending([*SCALED, node("MatMul", "scaled half", "logits_per_text")])
    negative = ending([PRODUCT, node("Neg", "cosines", "logits_per_text")])
    around = ending([node("MatMul", "words columns", "logits_per_text")])
    for proto in (bent, mixed, negative, around, two_towers()):
        assert logits_of_graph(proto) is None


def test_what_people_say_about_logits_counts_where_files_are_silent() -> None:
    assert settle_logits(None, 100, None) == Logits(100.0, 0.0)
    assert settle_logits(Logits(117.33, -12.93), 117.33, None) == Logits(117.33, -12.93)
    with pytest.raises(BundleError, match="--logit-bias is 0, but"):
        settle_logits(Logits(117.33, -12.93), None, 0.0)
