"""The products with fixed matrices in a graph: where the time of a transformer goes.

This file finds them, and watches what goes into them; `int8` rewrites them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx

from miniclip.arrays import FloatArray
from miniclip.cpus import usable_cpus
from miniclip.onnx_encoder import OnnxGraph
from miniclip.quantize.graph import Graph, attribute
from miniclip.tower_graph import Feeds, Ports

_SMALLEST = 32  # rows of a matrix; below, rounding costs more than it saves


@dataclass(frozen=True)
class Product:
    """y = x w + b, written as MatMul, MatMul and Add, or Gemm.

    source: the name of x (..., K). matrix: w (K, N) float32. bias: the name of b (N,), or "".
    last: the node that gives y.
    """

    source: str
    matrix: FloatArray = field(repr=False)
    bias: str
    last: onnx.NodeProto = field(repr=False)


class Range(NamedTuple):
    """What was seen of a value: the least and the largest of each channel, (K,) float32 each.

    rows: how many vectors of K numbers there were for one item, the most.
    """

    low: FloatArray
    high: FloatArray
    rows: int


def find_products(graph: Graph) -> list[Product]:
    """Return every product of a computed value with a fixed matrix of float32, in order."""
    found = (_product(graph, node) for node in graph.nodes if node.op_type in ("MatMul", "Gemm"))
    return [product for product in found if product is not None]


def observe(path: Path, feeds: Iterable[Feeds]) -> dict[str, Range]:
    """Run a graph and return what goes into its products, by name.

    feeds: batches by input name.
    """
    graph = Graph.read(path)
    names = list(dict.fromkeys(product.source for product in find_products(graph)))
    graph.watch(name for name in names if not graph.is_output(name))
    seen: dict[str, Range] = {}
    with TemporaryDirectory(prefix="miniclip-quantize-") as directory:
        watched = Path(directory, "watched.onnx")
        watched.write_bytes(graph.to_bytes())
        outputs: Ports = dict.fromkeys(names, ("tensor(float)", None))
        runner = OnnxGraph(watched, usable_cpus(), graph.inputs, outputs)
        for batch in feeds:
            items = len(next(iter(batch.values())))
            for name, values in zip(names, runner.run(batch), strict=True):
                vectors = values.reshape(-1, values.shape[-1])
                new = Range(vectors.min(0), vectors.max(0), -(-len(vectors) // items))
                seen[name] = _joined(seen[name], new) if name in seen else new
    return seen


def _joined(one: Range, other: Range) -> Range:
    return Range(
        np.minimum(one.low, other.low), np.maximum(one.high, other.high), max(one.rows, other.rows)
    )


def _product(graph: Graph, node: onnx.NodeProto) -> Product | None:
    matrix = graph.constant(node.input[1])
    if matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32:
        return None
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        matrix = matrix.T
    if len(matrix) < _SMALLEST or graph.constant(node.input[0]) is not None:
        return None
    if node.op_type == "Gemm":
        return _gemm(graph, node, matrix)
    readers = graph.consumers(node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add" and not graph.is_output(node.output[0]):
        for name in readers[0].input:
            bias = graph.constant(name)
            if bias is not None and bias.shape == (matrix.shape[1],):
                return Product(node.input[0], matrix, name, readers[0])
    return Product(node.input[0], matrix, "", node)


def _gemm(graph: Graph, node: onnx.NodeProto, matrix: FloatArray) -> Product | None:
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if not plain or attribute(node, "transA", 0):
        return None
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias:
        values = graph.constant(bias)
        if values is None or values.shape != (matrix.shape[1],):
            return None
    return Product(node.input[0], matrix, bias, node)
