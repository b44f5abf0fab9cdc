"""Cut a part out of an ONNX graph, find a place in it, run it item by item. It knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# What comes out of these is what went in, but for its shape, its type or one factor a row.
_PASSING = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
_SCALING = {"Div", "Mul", "LpNormalization"}
_PRODUCTS = {"MatMul", "FusedMatMul", "MatMulInteger", "MatMulNBits"}
_ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear"}


def cut_out(
    proto: onnx.ModelProto, outputs: Sequence[str], inputs: Sequence[str] = ()
) -> onnx.ModelProto:
    """Copy the part of a graph that computes `outputs`, beginning at `inputs` where it meets them.

    The inputs of the graph that the part needs beside those stay its inputs.
    """
    graph = proto.graph
    needed = set(outputs)
    kept = []
    for node in reversed(graph.node):
        if needed & (set(node.output) - set(inputs)):
            kept.append(node)
            needed.update(_taken(node))
    held = {tensor.name for tensor in graph.initializer}  # old graphs list weights as inputs too
    typed = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
    taken = [v.name for v in graph.input if v.name in needed - held and v.name not in inputs]
    part = onnx.ModelProto(ir_version=proto.ir_version)
    part.opset_import.extend(proto.opset_import)
    part.functions.extend(proto.functions)
    part.graph.name = graph.name
    part.graph.node.extend(reversed(kept))
    part.graph.initializer.extend(t for t in graph.initializer if t.name in needed)
    for names, ports in (([*taken, *inputs], part.graph.input), (outputs, part.graph.output)):
        ports.extend(typed.get(name) or onnx.ValueInfoProto(name=name) for name in names)
    return part


def before_projection(graph: onnx.GraphProto, embedding: str) -> str | None:
    """Find what the last product with weights takes; None where the embedding is no such product.

    Unit length, casts and the rounding of int8 may stand between, but no bias: a sum is a part of
    the tower, and not a projection.
    """
    makers = {name: node for node in graph.node for name in node.output}
    fixed = _constants(graph)
    behind = [embedding]
    while behind:
        node = makers.get(behind.pop())
        if node is None:
            continue
        if _is_projection(node, fixed):
            return _unrounded(node.input[0], makers)
        if node.op_type in _PASSING | _SCALING:
            behind += list(node.input) if node.op_type == "Mul" else [node.input[0]]
    return None


def item_by_item(graph: onnx.GraphProto, given: str) -> None:
    """Let a graph that takes a single item take a batch, by a loop over its items, in place.

    The names of its inputs (1, ...) and outputs (1, width) float32 begin with `given`, which goes.
    Weights stay where they are: the body of the loop sees them.
    """
    before, after, shapes = [], [], []
    for value in graph.input:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        shapes.append(_shape(f"{value.name}/shape", sizes))
        before.append(_reshape(f"{value.name}/item", shapes[-1].name, value.name))
    for value in graph.output:
        shapes.append(_shape(f"{value.name}/shape", [-1]))
        after.append(_reshape(value.name, shapes[-1].name, f"{value.name}/item"))
    body = helper.make_graph(
        [*before, *graph.node, *after],
        "item",
        [_port(value, f"{value.name}/item", batch=None) for value in graph.input],
        [_port(value, f"{value.name}/item", batch=None) for value in graph.output],
    )
    inputs, outputs = (
        [_port(value, value.name.removeprefix(given), batch="B") for value in values]
        for values in (graph.input, graph.output)
    )
    names = [[value.name for value in values] for values in (inputs, outputs)]
    scan = helper.make_node("Scan", *names, body=body, num_scan_inputs=len(inputs))
    replace_parts(graph, [scan], inputs, outputs)
    graph.initializer.extend(shapes)


def replace_parts(
    graph: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> None:
    """Put other nodes and ports in place of a graph's own; its weights are not copied."""
    for part, fresh in ((graph.node, nodes), (graph.input, inputs), (graph.output, outputs)):
        del part[:]
        part.extend(fresh)


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """Name what a node takes, and what the bodies of its loops and branches take."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _taken(inner)


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Name every value that depends on no input."""
    fixed = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in fixed for name in _taken(node)):
            fixed.update(node.output)
    return fixed


def _is_projection(node: onnx.NodeProto, fixed: set[str]) -> bool:
    is_product = node.op_type in _PRODUCTS or (node.op_type == "Gemm" and len(node.input) == 2)
    return is_product and node.input[1] in fixed and node.input[0] not in fixed


def _unrounded(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    maker = makers.get(name)
    return maker.input[0] if maker is not None and maker.op_type in _ROUNDING else name


def _port(value: onnx.ValueInfoProto, name: str, *, batch: str | None) -> onnx.ValueInfoProto:
    """Describe a port as another one, with a free first axis or, with None, without it."""
    tensor = value.type.tensor_type
    sizes = [s.dim_value if s.HasField("dim_value") else s.dim_param for s in tensor.shape.dim[1:]]
    shape = sizes if batch is None else [batch, *sizes]
    return helper.make_tensor_value_info(name, tensor.elem_type, shape)


def _shape(name: str, sizes: Sequence[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(sizes, dtype=np.int64), name)


def _reshape(source: str, shape: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Reshape", [source, shape], [target])
