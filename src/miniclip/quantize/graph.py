"""`Graph`: an ONNX graph to be rewritten, with the look-ups that every rewriting needs.

It knows no pattern and no number format; `fuse`, `smooth` and `int8` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from miniclip.errors import ExportError
from miniclip.tower_graph import Ports

# How a file may store a weight in fewer bytes; such a weight is a constant all the same.
_RESTORING = {"Cast", "DequantizeLinear", "Identity", "Mul"}
_ELEMENTS = {TensorProto.FLOAT: "tensor(float)", TensorProto.INT64: "tensor(int64)"}
MICROSOFT = "com.microsoft"  # onnxruntime's own operators


class Graph:
    """A model in memory. Nodes are added next to those that they replace; `to_bytes` tidies up."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take over a model. ExportError for one with loops or branches."""
        self._model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._outputs = {port.name for port in model.graph.output}
        for node in self.nodes:  # small constants may also be nodes
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._stored[node.output[0]] = node.attribute[0].t
        if any(entry.HasField("g") for node in self.nodes for entry in node.attribute):
            raise ExportError("a graph with loops cannot be rewritten; leave this tower as it is")
        self._restore_weights()
        self._added = 0
        self._refresh()

    def _restore_weights(self) -> None:
        for node in self.nodes:
            stored = [self.constant(name) for name in node.input]
            if node.op_type in _RESTORING and all(values is not None for values in stored):
                feeds = dict(zip(node.input, stored, strict=True))
                (values,) = ReferenceEvaluator(node).run(None, feeds)
                self._stored[node.output[0]] = numpy_helper.from_array(values, node.output[0])
        self.nodes = [node for node in self.nodes if node.output[0] not in self._stored]

    @classmethod
    def read(cls, path: Path) -> Graph:
        """Read a file of ONNX."""
        return cls(onnx.load(path))

    def to_bytes(self) -> bytes:
        """Serialise what still leads to an output."""
        content: bytes = self.to_model().SerializeToString()
        return content

    def to_model(self) -> onnx.ModelProto:
        """Return the model that was taken over, with what still leads to an output."""
        used: set[str] = set(self._outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if used & set(node.output):
                kept.append(node)
                used |= set(node.input)
        graph = self._model.graph
        for name, tensor in self._stored.items():
            tensor.name = name  # the value of a Constant has no name
        stored = [tensor for name, tensor in self._stored.items() if name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
        graph.initializer.extend(stored)
        if any(node.domain == MICROSOFT for node in kept) and all(
            entry.domain != MICROSOFT for entry in self._model.opset_import
        ):
            self._model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return self._model

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computes a value; None for inputs and constants."""
        return self._producers.get(name)

    def consumers(self, name: str) -> Sequence[onnx.NodeProto]:
        """Return the nodes that read a value."""
        return self._consumers.get(name, ())

    def is_output(self, name: str) -> bool:
        """Whether a value leaves the graph."""
        return name in self._outputs

    @property
    def inputs(self) -> Ports:
        """What must be fed, of any shape."""
        return {
            port.name: (_ELEMENTS[port.type.tensor_type.elem_type], None)
            for port in self._model.graph.input
        }

    def input_size(self, name: str) -> tuple[int, int] | None:
        """Return the fixed height and width of an input (B, channels, height, width)."""
        for port in self._model.graph.input:
            if port.name == name:
                sizes = [size.dim_value for size in port.type.tensor_type.shape.dim[-2:]]
                return (sizes[0], sizes[1]) if len(sizes) == 2 and all(sizes) else None
        return None

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of a constant, None for anything that is computed or fed."""
        tensor = self._stored.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def store(self, what: str, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = self.new_name(what)
        self._stored[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def new_name(self, what: str) -> str:
        """Return a name that nothing bears yet."""
        self._added += 1
        return f"miniclip.{what}.{self._added}"

    def insert(self, nodes: Iterable[onnx.NodeProto], *, before: onnx.NodeProto) -> None:
        """Put nodes in front of another one."""
        place = next(i for i, node in enumerate(self.nodes) if node is before)
        self.nodes[place:place] = nodes
        self._refresh()

    def replace(self, last: onnx.NodeProto, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes, which compute the same output, in the place of one.

        What only that node needed stays, and `to_bytes` drops it.
        """
        place = next(i for i, node in enumerate(self.nodes) if node is last)
        self.nodes[place : place + 1] = nodes
        self._refresh()

    def watch(self, names: Iterable[str]) -> None:
        """Make values of type float32 outputs of the graph."""
        for name in names:
            self._outputs.add(name)
            self._model.graph.output.append(
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )

    def _refresh(self) -> None:
        self._producers = {name: node for node in self.nodes for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._consumers.setdefault(name, []).append(node)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default
