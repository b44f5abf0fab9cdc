"""One tower of someone else's ONNX export, and the same with the ports that a bundle promises.

What is computed stays as it was, node by node. Which file holds which tower, and what it expects
of pixels and texts, is decided in `transformers_js` and `immich`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import onnx
from onnx import TensorProto, compose, helper
from onnx.external_data_helper import ExternalDataInfo

from miniclip.errors import BundleError
from miniclip.pull.early_pooling import pool_early
from miniclip.pull.graph_surgery import (
    before_projection,
    cut_out,
    item_by_item,
    replace_parts,
)

PIXELS, TOKENS, MASK, SEGMENTS = "pixels", "input_ids", "attention_mask", "token_type_ids"
_OUR_NAME = {
    **dict.fromkeys(("pixel_values", "image"), PIXELS),
    **dict.fromkeys(("input_ids", "text"), TOKENS),
    **{name: name for name in (MASK, SEGMENTS)},
}
_ELEMENTS = {
    PIXELS: (TensorProto.FLOAT, TensorProto.FLOAT16),
    **dict.fromkeys((TOKENS, MASK, SEGMENTS), (TensorProto.INT32, TensorProto.INT64)),
}
_LARGEST_BYTES = 2**31 - 1  # of one protobuf message
_INNER, _ONE = "inner/", "one/"  # keep foreign names apart from ours


class Port(NamedTuple):
    """An input of a foreign graph: its name there, its TensorProto type, None for free sizes."""

    name: str
    element: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ForeignTower:
    """A tower as it came.

    where: the file, for messages; proto: computes the tower alone; embedding: its only output;
    ports: its inputs by our names for them.
    """

    where: str
    proto: onnx.ModelProto
    embedding: str
    ports: dict[str, Port]

    @classmethod
    def cut(cls, path: Path, names: Sequence[str] = ()) -> Self:
        """Read a file and cut a tower out of it.

        names: of the output that is the embedding, the first that is there; none for the only one.
        BundleError when the file has none of these, or inputs that are not known here.
        """
        return cls.of(load_graph(path), f"{path.parent.name}/{path.name}", names)

    @classmethod
    def of(cls, proto: onnx.ModelProto, where: str, names: Sequence[str] = ()) -> Self:
        """Cut a tower out of a graph; where: what to call it. Else as `cut`."""
        outputs = [output.name for output in proto.graph.output]
        found = [name for name in names or outputs if name in outputs]
        if not found or (not names and len(outputs) > 1):
            raise BundleError(
                f"{where} has the outputs {', '.join(outputs)}; needed is {' or '.join(names)} "
                "or one alone, the embedding after the projection, so choose another export"
            )
        part = cut_out(proto, found[:1])
        return cls(where, part, found[0], _ports(where, part.graph))

    @property
    def alone(self) -> bool:
        """Whether it takes a single item at a time."""
        return any(port.shape[:1] == (1,) for port in self.ports.values())

    @property
    def length(self) -> int | None:
        """T, for a text tower that takes no other number of tokens."""
        shape = self.ports[TOKENS].shape
        return shape[1] if len(shape) == 2 else None

    def table_rows(self) -> int | None:
        """Return how many tokens its table of embeddings knows; None where none is found."""
        sizes = {
            tensor.name: tensor.dims[0] for tensor in self.proto.graph.initializer if tensor.dims
        }
        ids = {self.ports[TOKENS].name}
        for node in self.proto.graph.node:
            if node.op_type in ("Cast", "Identity", "Reshape") and node.input[0] in ids:
                ids.update(node.output)
            if node.op_type == "Gather" and node.input[1] in ids and node.input[0] in sizes:
                return int(sizes[node.input[0]])
        return None

    def image_graph(self, side: int) -> onnx.ModelProto:
        """`pixels` (B, 3, S, S) to `embedding` (B, D) and `features` (B, F).

        BundleError when the tower takes no such pixels.
        """
        port = self._needed_port(PIXELS)
        wanted = (None, 3, side, side)
        if len(port.shape) != 4 or any(
            size not in (None, want) for size, want in zip(port.shape[1:], wanted[1:], strict=True)
        ):
            raise BundleError(
                f"{self.where} takes pixels of shape {port.shape}, but the preprocessor makes "
                f"(B, 3, {side}, {side}); correct the one that is wrong"
            )
        return self._with_our_ports({PIXELS: [3, side, side]}, TensorProto.FLOAT)

    def text_graph(self) -> onnx.ModelProto:
        """`input_ids`, `attention_mask` (B, T) to `embedding` (B, D) and `features` (B, F')."""
        self._needed_port(TOKENS)
        size = [self.length or "T"]
        return self._with_our_ports({TOKENS: size, MASK: size}, TensorProto.INT64)

    def _needed_port(self, name: str) -> Port:
        if name not in self.ports or (PIXELS in self.ports and len(self.ports) > 1):
            raise BundleError(
                f"{self.where} computes its embedding from {', '.join(self.ports)}; "
                f"needed is {name}, so choose another export"
            )
        return self.ports[name]

    def as_it_came(self) -> onnx.ModelProto:
        """Give the tower with its own inputs, and the outputs `ours/embedding`, `ours/features`.

        It is what the graphs for the bundle are held against.
        """
        graph = self.proto.graph
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        proto.graph.node.extend(_ends(graph, self.embedding, "ours/"))
        proto.graph.output.extend(_outputs("ours/", None))
        return proto

    def _with_our_ports(self, sizes: dict[str, list[int | str]], element: int) -> onnx.ModelProto:
        given = _ONE if self.alone else ""
        batch = 1 if self.alone else "B"
        proto = compose.add_prefix(self.proto, _INNER)
        pool_early(proto)
        replace_parts(
            proto.graph,
            [
                *self._feeds(given),
                *proto.graph.node,
                *_ends(proto.graph, _INNER + self.embedding, given),
            ],
            [
                helper.make_tensor_value_info(given + name, element, [batch, *size])
                for name, size in sizes.items()
            ],
            _outputs(given, batch),
        )
        if self.alone:
            item_by_item(proto.graph, given)
        if proto.ByteSize() > _LARGEST_BYTES:
            raise BundleError(
                f"{self.where} holds {proto.ByteSize() / 1e9:.1f} GB of weights, but a graph in "
                "one file holds less than 2.1 GB; choose a smaller --precision"
            )
        return proto

    def _feeds(self, given: str) -> list[onnx.NodeProto]:
        """Hand our inputs to theirs; a single sentence is all segment 0."""
        feeds = []
        for name, port in self.ports.items():
            source = given + name
            if name == SEGMENTS:
                source = "no_segments"
                feeds.append(helper.make_node("Sub", [given + TOKENS] * 2, [source]))
            feeds.append(_cast(source, _INNER + port.name, port.element))
        return feeds


def load_graph(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """Read an ONNX file and the weights in files beside it. BundleError when it cannot be read."""
    try:
        proto = onnx.load(path, load_external_data=False)
        if weights:
            _load_weights(proto, path.parent)
    except Exception as error:  # protobuf, onnx and the system raise a dozen types
        raise BundleError(f"{path} is no readable ONNX file ({error}); fetch it again") from error
    return proto


def _load_weights(proto: onnx.ModelProto, folder: Path) -> None:
    """Take in what lies outside. The reader of onnx follows no links, which a hub's cache is of."""
    for tensor in proto.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        lies = ExternalDataInfo(tensor)
        if Path(lies.location).name != lies.location:
            raise ValueError(f"weights in {lies.location!r}, which is in another folder")
        with (folder / lies.location).open("rb") as stream:
            stream.seek(lies.offset or 0)
            tensor.raw_data = stream.read(lies.length if lies.length else -1)
        if lies.length and len(tensor.raw_data) != lies.length:
            raise ValueError(f"{lies.location} ends too early")
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")


def _ports(where: str, graph: onnx.GraphProto) -> dict[str, Port]:
    ports = {}
    for value in graph.input:
        name, tensor = _OUR_NAME.get(value.name), value.type.tensor_type
        if name is None or tensor.elem_type not in _ELEMENTS[name]:
            element = TensorProto.DataType.Name(tensor.elem_type)
            raise BundleError(
                f"{where} takes {value.name!r} ({element}), which is not known here; "
                "choose another export of this model"
            )
        sizes = tensor.shape.dim
        shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)
        if shape and shape[0] not in (None, 1):
            raise BundleError(
                f"{where} takes {shape[0]} items at a time; export it for one, or any number"
            )
        ports[name] = Port(value.name, tensor.elem_type, shape)
    return ports


def _ends(graph: onnx.GraphProto, embedding: str, given: str) -> list[onnx.NodeProto]:
    """Give float32 outputs; without a projection, the features are the embedding."""
    features = before_projection(graph, embedding) or embedding
    return [
        _cast(embedding, f"{given}embedding", TensorProto.FLOAT),
        _cast(features, f"{given}features", TensorProto.FLOAT),
    ]


def _outputs(given: str, batch: int | str | None) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(f"{given}{name}", TensorProto.FLOAT, [batch, width])
        for name, width in (("embedding", "D"), ("features", "F"))
    ]


def _cast(source: str, target: str, element: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], to=element)
