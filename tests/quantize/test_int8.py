"""Products in int8: the arithmetic by hand, what is rounded, and that neighbours do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from miniclip.errors import ExportError
from miniclip.quantize.int8 import quantise_products
from miniclip.quantize.products import Range, find_products, observe
from miniclip.quantize.towers import to_float16, to_int8
from tests.quantize.running import cosines, kinds, parsed, pixels, run, tokens
from tests.quantize.tiny_transformer import HEADS, WIDTH, Habits, image_graph, text_graph
from tests.tiny_bundle import tiny_files

K, N, ROWS = 40, 3, 5
PRODUCTS = 6  # of one layer: query, key, value, joined heads, and two of the perceptron


def seen(low: float, high: float) -> Range:
    return Range(np.full(K, low, np.float32), np.full(K, high, np.float32), ROWS)


def product(kind: str) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Write x w + b as an exporter may; returns it with w and b."""
    random = np.random.default_rng(5)
    matrix = random.normal(size=(K, N)).astype(np.float32)
    bias = random.normal(size=N).astype(np.float32)
    if kind == "Gemm":
        nodes = [helper.make_node("Gemm", ["pixels", "w", "b"], ["embedding"], transB=1)]
    else:
        nodes = [
            helper.make_node("MatMul", ["pixels", "w"], ["product"]),
            helper.make_node("Add", ["b", "product"], ["embedding"]),
        ]
    constants = {"w": matrix.T if kind == "Gemm" else matrix, "b": bias}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", K])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", N])],
        [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), matrix, bias


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize("portable", [False, True])
def test_it_computes_what_integers_by_hand_do(kind: str, portable: bool) -> None:
    content, matrix, bias = product(kind)
    graph = parsed(content)
    assert quantise_products(graph, {"pixels": seen(-1, 3)}, portable=portable) == 1
    x = np.random.default_rng(6).uniform(-2, 4, size=(ROWS, K)).astype(np.float32)

    step, zero = 4 / 255, round(1 * 255 / 4)
    expected = np.zeros((ROWS, N))
    for row in range(ROWS):
        for column in range(N):
            step_of_column = np.abs(matrix[:, column]).max() / 127
            total = 0
            for k in range(K):
                left = min(255, max(0, round(float(x[row, k]) / step) + zero)) - zero
                total += left * round(float(matrix[k, column] / step_of_column))
            expected[row, column] = total * step * step_of_column + bias[column]

    found = run(graph.to_bytes(), {"pixels": x})
    np.testing.assert_allclose(found, expected, atol=step * 2)  # a value on the edge of a step
    assert np.abs(found - (x @ matrix + bias)).max() > 0.01  # which is not what float32 says


def test_a_tower_keeps_its_direction_and_only_the_layers_are_rounded(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(image_graph())
    feeds = [pixels(4, seed) for seed in range(4)]
    small = to_int8(path, feeds, portable=False)
    found = kinds(small)
    assert found["MatMulIntegerToFloat"] == PRODUCTS + 1  # and the patches
    assert found["QuantizeLinear"] == 5  # query, key and value share one
    assert found["MatMul"] == 1  # the projection, which runs once for an image
    assert found["MultiHeadAttention"] == 1
    assert HEADS * 32 == WIDTH
    new = pixels(8, 99)
    assert cosines(run(small, new), run(path.read_bytes(), new)).min() > 0.999


def test_texts_too(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(text_graph())
    small = to_int8(path, [tokens()], portable=False)
    assert kinds(small)["MatMulIntegerToFloat"] == PRODUCTS
    assert cosines(run(small, tokens()), run(path.read_bytes(), tokens())).min() > 0.999


def test_a_vector_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(image_graph())
    small = to_int8(path, [pixels(4)], portable=False)
    one, loud = pixels(1, 1)["pixels"], 50 * pixels(1, 2)["pixels"]
    together = run(small, {"pixels": np.concatenate([one, loud])})
    np.testing.assert_allclose(together[:1], run(small, {"pixels": one}), atol=1e-6)


def test_the_portable_one_keeps_to_the_standard_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(image_graph())
    portable = to_int8(path, [pixels(8)], portable=True)
    assert {node.domain for node in parsed(portable).nodes} == {""}
    joined = to_int8(path, [pixels(8)], portable=False)
    np.testing.assert_allclose(run(portable, pixels(4, 1)), run(joined, pixels(4, 1)), atol=0.02)


def test_a_loud_channel_does_not_drown_the_others(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(image_graph(Habits(loud=300)))
    feeds = [pixels(4, seed) for seed in range(4)]
    graph = parsed(path.read_bytes())
    ranges = observe(path, feeds)
    quantise_products(graph, ranges)
    # The same without what is known of channels: one range for all of them.
    deaf = parsed(path.read_bytes())
    alike = {
        name: Range(np.full_like(low, low.min()), np.full_like(high, high.max()), rows)
        for name, (low, high, rows) in ranges.items()
    }
    quantise_products(deaf, alike)
    exact, new = path.read_bytes(), pixels(8, 9)
    error = 1 - cosines(run(graph.to_bytes(), new), run(exact, new)).min()
    deaf_error = 1 - cosines(run(deaf.to_bytes(), new), run(exact, new)).min()
    assert error < deaf_error / 3


def test_what_is_seen_is_what_goes_in(tmp_path: Path) -> None:
    content, _, _ = product("MatMul")
    path = tmp_path / "product.onnx"
    path.write_bytes(content)
    batches = [np.random.default_rng(i).normal(size=(4, K)).astype(np.float32) for i in range(3)]
    (found,) = observe(path, [{"pixels": batch} for batch in batches]).values()
    np.testing.assert_array_equal(found.low, np.concatenate(batches).min(axis=0))
    np.testing.assert_array_equal(found.high, np.concatenate(batches).max(axis=0))
    assert found.rows == 1


def test_products_of_two_computed_values_are_none_of_ours() -> None:
    found = find_products(parsed(image_graph()))
    assert len(found) == PRODUCTS + 1
    assert all(len(product.matrix) >= WIDTH for product in found)


def test_a_tower_without_products_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(tiny_files()["image.onnx"])
    with pytest.raises(ExportError, match="leave it as it is"):
        to_int8(path, [pixels(2)], portable=False)


def test_float16_computes_in_it_and_takes_half_the_room(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(image_graph())
    half = to_float16(path)
    assert len(half) < 0.6 * len(path.read_bytes())
    assert cosines(run(half, pixels(4)), run(path.read_bytes(), pixels(4))).min() > 0.9999
