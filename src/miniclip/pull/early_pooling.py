"""Pick the token that a tower is pooled at before the last layers work on all the others.

A vision transformer reads one token of its last block, a text transformer one as well. What stands
between the last attention and that choice treats every token alone, so the choice can be made
first: the numbers stay, and of a tower of twelve blocks one sixteenth of the work goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx import helper, shape_inference

Shape = tuple[int | str, ...]

# What gives a token's numbers from that token's numbers alone, given fitting shapes.
_OF_ONE_TOKEN = {
    "Add", "Cast", "Div", "Erf", "Gelu", "Identity", "LayerNormalization", "MatMul", "Mul", "Pow",
    "QuickGelu", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
_RANK = 3  # batch, tokens, channels


def pool_early(proto: onnx.ModelProto) -> None:
    """Move what works on single tokens behind the choice of one, in place, wherever that is so."""
    shapes = _shapes(proto)
    for node in list(proto.graph.node):
        if _picks_a_token(node, shapes):
            _move(node, proto.graph, shapes)


def _picks_a_token(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether (B, T, C) becomes (B, C)."""
    if node.op_type not in ("Gather", "GatherND") or len(shapes.get(node.input[0], ())) != _RANK:
        return False
    places = shapes.get(node.input[1])
    if node.op_type == "Gather":
        return places == () and _attribute(node, "axis", 0) == 1
    by_batch = places is not None and len(places) == 2 and places[1] == 2
    return by_batch and _attribute(node, "batch_dims", 0) == 0


def _move(pick: onnx.NodeProto, graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> None:
    moved = _movable(pick, graph, shapes)
    if not moved:
        return
    picked = {name for node in moved for name in node.output}
    behind: list[onnx.NodeProto] = []
    for node in moved:
        for place, name in enumerate(node.input):
            if len(shapes.get(name, ())) == _RANK and name not in picked:
                fresh = f"{name}/picked"
                if all(fresh not in other.output for other in behind):
                    behind.append(_copy(pick, [name, pick.input[1]], fresh))
                node.input[place] = fresh
        if node.op_type == "LayerNormalization":
            _count_axis_from_the_end(node)
        behind.append(node)
    behind.append(helper.make_node("Identity", [pick.input[0]], [pick.output[0]]))

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] == pick.output[0]:
            nodes += behind
        elif node.output[0] not in picked:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [value for value in graph.value_info if value.name not in picked]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _movable(
    pick: onnx.NodeProto, graph: onnx.GraphProto, shapes: Mapping[str, Shape]
) -> list[onnx.NodeProto]:
    """List, in order, copies of the nodes that nothing but `pick` profits from."""
    readers = defaultdict(set)
    for number, node in enumerate(graph.node):
        for name in _read(node):
            readers[name].add(number)
    outputs = {value.name for value in graph.output}
    free = {number for number, node in enumerate(graph.node) if node.output[0] == pick.output[0]}
    found = []
    for number in range(len(graph.node) - 1, -1, -1):
        node = graph.node[number]
        (name, *others) = node.output
        read = readers[name]
        if (
            read
            and read <= free
            and name not in outputs
            and not any(readers[other] for other in others)
            and _is_of_one_token(node, shapes)
        ):
            free.add(number)
            found.append(onnx.NodeProto.FromString(node.SerializeToString()))
    return found[::-1]


def _read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)


def _is_of_one_token(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether row t of the output (B, T, C) needs row t of the inputs and vectors of channels."""
    result = shapes.get(node.output[0], ())
    if node.op_type not in _OF_ONE_TOKEN or len(result) != _RANK:
        return False
    given = [shapes.get(name) for name in node.input if name]
    if node.op_type == "MatMul":
        return _fits(given[0], result) and given[1] is not None and len(given[1]) == 2
    if node.op_type == "LayerNormalization" and _attribute(node, "axis", -1) not in (-1, _RANK - 1):
        return False
    return all(_fits(shape, result) or (shape is not None and len(shape) <= 1) for shape in given)


def _fits(shape: Shape | None, result: Shape) -> bool:
    """Whether two shapes have the same rows, as far as is known: free sizes have many names."""
    return (
        shape is not None
        and len(shape) == _RANK
        and all(
            one == other or (isinstance(one, str) and isinstance(other, str))
            for one, other in zip(shape[:-1], result[:-1], strict=True)
        )
    )


def _count_axis_from_the_end(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "axis":
            attribute.i = -1


def _copy(node: onnx.NodeProto, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    copy.name = ""
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.append(output)
    return copy


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _shapes(proto: onnx.ModelProto) -> dict[str, Shape]:
    """Name -> shape of every value whose shape is known; a free size by its name."""
    light = onnx.ModelProto(ir_version=proto.ir_version)
    light.opset_import.extend(proto.opset_import)
    light.functions.extend(proto.functions)
    light.graph.name = proto.graph.name
    light.graph.node.extend(proto.graph.node)
    for part in ("input", "output", "value_info"):
        getattr(light.graph, part).extend(getattr(proto.graph, part))
    stored = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    small = 64  # elements: shapes to reshape to and the like; no weights
    for tensor in proto.graph.initializer:
        if sum(tensor.dims) <= small and len(tensor.dims) <= 1:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    found: dict[str, Shape] = dict(stored)
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        tensor_type = value.type.tensor_type
        if tensor_type.HasField("shape"):
            found[value.name] = tuple(
                size.dim_value if size.HasField("dim_value") else size.dim_param
                for size in tensor_type.shape.dim
            )
    return found
