"""How fast this machine multiplies matrices: the limit that no model can pass in that precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

GEMM = (1600, 768, 3072)  # rows, inner, columns: the widest product of the tower, for 32 images

Leg = Callable[[], Any]
Precision = str


def gemm_limits(threads: int) -> dict[Precision, float]:
    """Billions of operations a second in one product of matrices: the best library, best turn."""
    torch.set_num_threads(threads)
    rows, inner, columns = GEMM
    one, other = torch.randn(rows, inner), torch.randn(inner, columns)
    halves = one.bfloat16(), other.bfloat16()
    legs: dict[str, list[Leg]] = {
        "float32": [lambda: one @ other, product_in_onnxruntime("MatMul", threads)],
        "bfloat16": [lambda: halves[0] @ halves[1]],
        "int8": [product_in_onnxruntime("MatMulInteger", threads)],
    }
    operations = 2 * rows * inner * columns / 1e9
    return {
        precision: round(operations / min(best_of(leg) for leg in several), 1)
        for precision, several in legs.items()
    }


def product_in_onnxruntime(kind: str, threads: int) -> Leg:
    """Prepare one product in float32 or in integers of 8 bits."""
    rows, inner, columns = GEMM
    random = np.random.default_rng(0)
    if kind == "MatMul":
        given: Any = random.normal(size=(rows, inner)).astype(np.float32)
        weight: Any = random.normal(size=(inner, columns)).astype(np.float32)
        types = TensorProto.FLOAT, TensorProto.FLOAT
    else:
        given = random.integers(0, 256, (rows, inner), dtype=np.uint8)
        weight = random.integers(-127, 128, (inner, columns), dtype=np.int8)
        types = TensorProto.UINT8, TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", types[0], [rows, inner])],
        [helper.make_tensor_value_info("y", types[1], [rows, columns])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), session_options)
    return lambda: session.run(None, {"x": given})


def best_of(leg: Leg, seconds: float = 1.0) -> float:
    """Seconds of the fastest call."""
    leg()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        leg()
        best = min(best, time.perf_counter() - started)
    return best
