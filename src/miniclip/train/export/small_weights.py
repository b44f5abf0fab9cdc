"""Smaller storage of the weights of an ONNX graph; it computes in float32 as before.

A stored weight is turned back into float32 by a Cast (and a Mul by its scale), which onnxruntime
does once, when it loads the graph: the graph runs at the same speed. Only word embeddings stay
small in memory, for their rows are looked up before they are scaled. Whether a smaller model is
good enough is decided in `bundle`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from miniclip.arrays import FloatArray
from miniclip.errors import ExportError

Storage = Literal["float32", "float16", "int8-embeddings", "int8"]
"""How weights are stored, from the largest to the smallest.

float16:          every weight of at least 256 values in float16.
int8-embeddings:  the same, but tables of at least 1,024 rows that are looked up by row in int8.
int8:             the same, and the weights of MatMul, Gemm and Conv in int8 too.
int8 means round(w / s) with a scale s = max |w| / 127 for each row or output channel.
"""

STORAGES: tuple[Storage, ...] = get_args(Storage)
_MIN_VALUES = 256
_MIN_TABLE_ROWS = 1024
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class Quantised(NamedTuple):
    """values: int8, like the weight; scales: float32, 1 along every axis but the scaled one."""

    values: NDArray[np.int8]
    scales: FloatArray


def quantise(weight: FloatArray, axis: int) -> Quantised:
    """Round a weight to int8 with one scale for each index along `axis`; zeros stay zeros."""
    others = tuple(other for other in range(weight.ndim) if other != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return Quantised(np.rint(weight / scales).astype(np.int8), scales)


def shrink(proto: onnx.ModelProto, storage: Storage) -> onnx.ModelProto:
    """Return a copy of a float32 graph whose weights are stored as asked.

    ExportError for an unknown storage.
    """
    if storage not in STORAGES:
        raise ExportError(f"weights are {storage!r}; choose one of {', '.join(STORAGES)}")
    small = onnx.ModelProto()
    small.CopyFrom(proto)
    if storage == "float32":
        return small
    writer = _Writer(small.graph)
    if storage in ("int8-embeddings", "int8"):
        writer.quantise_tables()
    if storage == "int8":
        writer.quantise_matrices()
    writer.halve_rest()
    writer.finish()
    return small


class _Writer:
    """Replaces initialisers of one graph; the nodes that restore them go to its front."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= _MIN_VALUES
        }
        self._replaced: set[str] = set()
        self._stored: list[onnx.TensorProto] = []
        self._restoring: list[onnx.NodeProto] = []

    def quantise_tables(self) -> None:
        """Look up int8 rows and their scales, and multiply what was found."""
        nodes = []
        for node in self._graph.node:
            if not self._is_table_lookup(node):
                nodes.append(node)
                continue
            table, ids, found = node.input[0], node.input[1], node.output[0]
            small = quantise(self._weights[table], axis=0)
            self._store(f"{table}.int8", small.values)
            self._store(f"{table}.scales", small.scales)
            self._replaced.add(table)
            rows, scales = f"{found}.int8", f"{found}.scales"
            nodes += [
                helper.make_node("Gather", [f"{table}.int8", ids], [rows], axis=0),
                helper.make_node("Gather", [f"{table}.scales", ids], [scales], axis=0),
                _cast(rows, f"{found}.float"),
                helper.make_node("Mul", [f"{found}.float", scales], [found]),
            ]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def quantise_matrices(self) -> None:
        """Store matrices and kernels in int8, scaled by output channel."""
        for name, axes in self._channel_axes().items():
            if name in self._replaced or len(axes) != 1 or None in axes:
                continue  # shared between uses that would want different scales
            (axis,) = axes
            small = quantise(self._weights[name], axis=int(axis or 0))
            self._store(f"{name}.int8", small.values)
            self._store(f"{name}.scales", small.scales)
            self._restoring += [
                _cast(f"{name}.int8", f"{name}.float"),
                helper.make_node("Mul", [f"{name}.float", f"{name}.scales"], [name]),
            ]
            self._replaced.add(name)

    def halve_rest(self) -> None:
        """Store every other large weight in float16, unless it holds a value too large for it."""
        for name, weight in self._weights.items():
            if name not in self._replaced and np.abs(weight).max() < _FLOAT16_MAX:
                self._store(f"{name}.float16", weight.astype(np.float16))
                self._restoring.append(_cast(f"{name}.float16", name))
                self._replaced.add(name)

    def finish(self) -> None:
        """Write the new initialisers and nodes into the graph."""
        kept = [t for t in self._graph.initializer if t.name not in self._replaced]
        nodes = list(self._graph.node)
        del self._graph.initializer[:], self._graph.node[:]
        self._graph.initializer.extend([*kept, *self._stored])
        self._graph.node.extend([*self._restoring, *nodes])

    def _store(self, name: str, values: NDArray[np.generic]) -> None:
        if all(tensor.name != name for tensor in self._stored):
            self._stored.append(numpy_helper.from_array(values, name))

    def _is_table_lookup(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Gather" or node.input[0] not in self._weights:
            return False
        uses = [n for n in self._graph.node if node.input[0] in n.input]
        by_row = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
        table = self._weights[node.input[0]]
        return len(uses) == 1 and by_row and table.ndim == 2 and len(table) >= _MIN_TABLE_ROWS

    def _channel_axes(self) -> dict[str, set[int | None]]:
        """For each weight, the axes of output channels that its uses imply; None: no such axis."""
        axes: dict[str, set[int | None]] = {}
        for name, axis in self._uses():
            axes.setdefault(name, set()).add(axis)
        return axes

    def _uses(self) -> Iterator[tuple[str, int | None]]:
        for node in self._graph.node:
            for place, name in enumerate(node.input):
                if name in self._weights:
                    ndim = self._weights[name].ndim
                    yield name, _output_axis(node, ndim) if place == 1 and ndim > 1 else None


def _output_axis(node: onnx.NodeProto, ndim: int) -> int | None:
    """Return the axis of output channels of a node's second input."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return ndim - 1
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        return 0 if transposed else 1
    return None


def _cast(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], to=onnx.TensorProto.FLOAT)
