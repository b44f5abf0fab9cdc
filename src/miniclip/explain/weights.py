"""Shuffle the weights inside an ONNX file, with no library that knows ONNX.

Only the few fields of the format that lead to weights are read (onnx.proto: ModelProto.graph,
GraphProto.node and .initializer, NodeProto.attribute, AttributeProto.t and .g, TensorProto); all
other bytes stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from miniclip.errors import BundleError

# Number of a field that leads on -> what it holds.
_PATHS = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
}
# TensorProto.DataType -> bytes of one weight: float, uint8, int8, float16, bfloat16.
_BYTES_OF = {1: 4, 2: 1, 3: 1, 10: 2, 16: 2}
_DIMS, _TYPE, _FLOATS, _RAW = 1, 2, 4, 9
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5

Span = tuple[int, int]


def shuffle_weights(graph: bytes, *, seed: int = 0) -> tuple[bytes, int]:
    """Return an ONNX file whose weights stand in random order, and how many tensors that were.

    Every tensor of at least two axes (of convolutions and products, not the biases and norms of
    one axis) keeps its values and loses their places, so that the scale of what flows through the
    graph stays as it was. BundleError when the bytes are no ONNX file.
    """
    data = np.frombuffer(graph, dtype=np.uint8).copy()
    rng = np.random.default_rng(seed)
    tensors = 0
    try:
        for (start, end), width in _weights(graph, (0, len(graph)), "model"):
            values = data[start:end].reshape(-1, width)
            values[:] = rng.permutation(values)
            tensors += 1
    except (IndexError, ValueError) as error:
        raise BundleError(f"this is no ONNX file ({error}); pull or export it again") from error
    return data.tobytes(), tensors


def _weights(graph: bytes, span: Span, kind: str) -> Iterator[tuple[Span, int]]:
    """Yield where weights lie, and the bytes of one."""
    if kind == "tensor":
        yield from _of_tensor(graph, span)
        return
    for number, wire, value in _fields(graph, span):
        if wire == _LENGTH and number in _PATHS[kind]:
            yield from _weights(graph, value, _PATHS[kind][number])


def _of_tensor(graph: bytes, span: Span) -> Iterator[tuple[Span, int]]:
    axes, element, places = 0, 0, []
    for number, wire, (start, end) in _fields(graph, span):
        if number == _DIMS:
            axes += sum(byte < 128 for byte in graph[start:end]) if wire == _LENGTH else 1
        elif number == _TYPE:
            element = _varint(graph, start)[0]
        elif number in (_FLOATS, _RAW) and wire == _LENGTH:
            places.append((start, end))
    if axes > 1 and element in _BYTES_OF:
        yield from ((place, _BYTES_OF[element]) for place in places)


def _fields(graph: bytes, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Yield number, wire type and place of each field of a message (protobuf's encoding)."""
    at, end = span
    while at < end:
        key, at = _varint(graph, at)
        wire = key & 7
        if wire == _LENGTH:
            length, at = _varint(graph, at)
        elif wire == _VARINT:
            length = _varint(graph, at)[1] - at
        elif wire in (_EIGHT, _FOUR):
            length = 8 if wire == _EIGHT else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > end:
            raise ValueError(f"a field ends {at + length - end} bytes behind its message")
        yield key >> 3, wire, (at, at + length)
        at += length


def _varint(graph: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = graph[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
