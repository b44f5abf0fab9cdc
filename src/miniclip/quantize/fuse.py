"""Transformers in fewer, larger steps: attention as one operator, patches as one product.

onnxruntime's own optimiser knows attention as older exporters wrote it; this one looks for what any
exporter must write: a softmax between two products, and heads that are split before and joined
after. The caller proves that the result computes the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from miniclip.quantize.graph import MICROSOFT, Graph, attribute

_HEADS_FIRST = [0, 2, 1, 3]  # (B, T, heads, d) to (B, heads, T, d), and back


class _Heads(NamedTuple):
    """The value (B, T, heads * d) that was split into heads, the factor it met, and d or heads."""

    source: str
    factor: float
    split: tuple[int, int]  # heads, d; one of them may be -1


def fuse_attention(graph: Graph) -> int:
    """Replace every attention by onnxruntime's `MultiHeadAttention`; return how many there were.

    softmax(s q k' + mask) v (Vaswani et al. 2017, equation 1), where s is a constant.
    """
    softmaxes = [node for node in graph.nodes if node.op_type == "Softmax"]
    return sum(_fuse_one(graph, softmax) for softmax in softmaxes)


def patches_as_product(graph: Graph) -> int:
    """Replace convolutions that cut a picture into patches by one product; return how many.

    Only a product is quantised by `int8`, and it also is the faster of the two.
    """
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    return sum(_flatten_patches(graph, node) for node in convolutions)


def _fuse_one(graph: Graph, softmax: onnx.NodeProto) -> bool:
    mixed = _only(graph, _without_nans(graph, softmax.output[0]), "MatMul")
    joined = mixed and _only(graph, mixed.output[0], "Transpose")
    flat = joined and _only(graph, joined.output[0], "Reshape")
    if not (mixed and joined and flat and attribute(joined, "perm") == _HEADS_FIRST):
        return False
    scores, mask = _unmasked(graph, softmax.input[0])
    if scores is None or scores.op_type != "MatMul":
        return False
    found = [
        _heads(graph, scores.input[0]),
        _heads(graph, scores.input[1], transposed=True),
        _heads(graph, mixed.input[1]),
    ]
    query, key, value = found
    if query is None or key is None or value is None or value.factor != 1:
        return False
    heads = _count(graph, query)
    if heads is None:
        return False
    nodes, masked = _wide_mask(graph, mask, query.source) if mask else ([], [])
    fused = helper.make_node(
        "MultiHeadAttention",
        [query.source, key.source, value.source, *masked],
        [flat.output[0]],
        domain=MICROSOFT,
        num_heads=heads,
        scale=query.factor * key.factor,
    )
    graph.replace(flat, [*nodes, fused])
    return True


def _wide_mask(graph: Graph, mask: str, query: str) -> tuple[list[onnx.NodeProto], list[str]]:
    """Repeat a mask that is the same for all rows: the operator wants (B or 1, 1, T, T)."""
    names = ("shape", "length", "rows", "mask")
    shape, length, rows, wide = (graph.new_name(name) for name in names)
    place = graph.store("place", np.array([1], dtype=np.int64))
    ones = graph.store("ones", np.array([1, 1], dtype=np.int64))
    one = graph.store("one", np.array([1], dtype=np.int64))
    nodes = [
        helper.make_node("Shape", [query], [shape]),
        helper.make_node("Gather", [shape, place], [length]),
        helper.make_node("Concat", [ones, length, one], [rows], axis=0),
        helper.make_node("Expand", [mask, rows], [wide]),
    ]
    return nodes, ["", "", wide]


def _only(graph: Graph, name: str, kind: str) -> onnx.NodeProto | None:
    """Return the one node that reads a value, if it is of this kind."""
    readers = graph.consumers(name)
    fits = len(readers) == 1 and readers[0].op_type == kind and not graph.is_output(name)
    return readers[0] if fits else None


def _without_nans(graph: Graph, name: str) -> str:
    """Step over `where(isnan(p), 0, p)`, which torch adds for rows that see nothing."""
    readers = graph.consumers(name)
    chosen = [node for node in readers if node.op_type == "Where"]
    guarded = {node.op_type for node in readers} == {"IsNaN", "Where"} and len(chosen) == 1
    return str(chosen[0].output[0]) if guarded else name


def _unmasked(graph: Graph, name: str) -> tuple[onnx.NodeProto | None, str | None]:
    """Return the product behind the scores, and the mask that was added to it."""
    node = graph.producer(name)
    if node is None or node.op_type != "Add":
        return node, None
    for scores, mask in (node.input, reversed(node.input)):
        maker = graph.producer(scores)
        if maker is not None and maker.op_type == "MatMul":
            return maker, mask
    return None, None


def _heads(graph: Graph, name: str, *, transposed: bool = False) -> _Heads | None:
    """Go back from (B, heads, T, d), or its transpose, to the value that was split into heads."""
    factor = 1.0
    swapped = False
    while (node := graph.producer(name)) is not None:
        name = node.input[0]
        if node.op_type == "Mul" and (scale := _scalar(graph, node.input[1])) is not None:
            factor *= scale
        elif node.op_type == "Div" and (scale := _scalar(graph, node.input[1])) is not None:
            factor /= scale
        elif node.op_type == "Transpose":
            order = attribute(node, "perm")
            if order in (_HEADS_FIRST, [0, 2, 3, 1]):
                swapped ^= order == [0, 2, 3, 1]
                split = graph.producer(name)
                if split is None or split.op_type != "Reshape" or swapped != transposed:
                    return None
                last = _last_sizes(graph, split.input[1])
                return _Heads(split.input[0], factor, last) if last else None
            if order[-2:] != [len(order) - 1, len(order) - 2]:
                return None
            swapped = not swapped
        elif node.op_type != "Reshape":  # torch folds heads into the batch to transpose a key
            return None
    return None


def _scalar(graph: Graph, name: str) -> float | None:
    value = graph.constant(name)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _last_sizes(graph: Graph, name: str) -> tuple[int, int] | None:
    """Return the last two sizes of the shape (B, T, heads, d), which may be a concatenation."""
    whole = graph.constant(name)
    if whole is None:
        node = graph.producer(name)
        if node is None or node.op_type != "Concat":
            return None
        ends = [graph.constant(part) for part in node.input[-2:]]
        known = [end for end in ends if end is not None]
        if len(known) != 2:
            return None
        whole = np.concatenate(known)
    return (int(whole[-2]), int(whole[-1])) if len(whole) >= 2 else None


def _count(graph: Graph, query: _Heads) -> int | None:
    """Return the number of heads; where the graph leaves it open, from the width of the query."""
    heads, width = query.split
    if heads > 0:
        return heads
    node = graph.producer(query.source)
    for name in node.input if node is not None else ():
        values = graph.constant(name)
        if values is not None and width > 0:  # a bias or a matrix, (..., heads * d)
            return int(values.shape[-1]) // width
    return None


def _flatten_patches(graph: Graph, node: onnx.NodeProto) -> bool:
    kernel = graph.constant(node.input[1])
    if kernel is None or kernel.ndim != 4:
        return False
    width, channels, high, wide = kernel.shape
    steps = attribute(node, "strides", [1, 1])
    if (
        attribute(node, "group", 1) != 1
        or any(attribute(node, "pads", [0]))
        or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        or max(attribute(node, "dilations", [1])) != 1
        or list(steps) != [high, wide]
        or high * wide == 1
        or (size := graph.input_size(node.input[0])) is None
        or size[0] % high
        or size[1] % wide
    ):
        return False
    rows, columns = size[0] // high, size[1] // wide
    cells, moved, patches, product, turned = (graph.new_name(f"patches{i}") for i in range(5))
    shape = [-1, channels, rows, high, columns, wide]
    matrix = graph.store("patch_weight", kernel.reshape(width, -1).T)
    nodes = [
        _reshaped(graph, node.input[0], shape, cells),
        helper.make_node("Transpose", [cells], [moved], perm=[0, 2, 4, 1, 3, 5]),
        _reshaped(graph, moved, [-1, rows * columns, channels * high * wide], patches),
        helper.make_node("MatMul", [patches, matrix], [product]),
    ]
    if len(node.input) > 2:
        nodes.append(
            helper.make_node("Add", [product, node.input[2]], [product := graph.new_name("biased")])
        )
    nodes.append(helper.make_node("Transpose", [product], [turned], perm=[0, 2, 1]))
    nodes.append(_reshaped(graph, turned, [-1, width, rows, columns], node.output[0]))
    graph.replace(node, nodes)
    return True


def _reshaped(graph: Graph, source: str, shape: list[int], target: str) -> onnx.NodeProto:
    stored = graph.store("shape", np.array(shape, dtype=np.int64))
    return helper.make_node("Reshape", [source, stored], [target])
