"""A bundle's graphs under the names that transformers.js looks for, each apart and both as one.

    onnx/vision_model.onnx   pixel_values -> image_embeds
    onnx/text_model.onnx     input_ids, attention_mask -> text_embeds
    onnx/model.onnx          all of these -> logits_per_image, logits_per_text, and both embeds as
                             unit rows

What is computed, and how weights are stored, stays as it is in the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from miniclip.bundle import IMAGE_FILE, TEXT_FILE, Bundle
from miniclip.errors import ExportError
from miniclip.manifest import Manifest

VISION_GRAPH, TEXT_GRAPH = "onnx/vision_model.onnx", "onnx/text_model.onnx"
WHOLE_GRAPH = "onnx/model.onnx"
_LARGEST_BYTES = 2**31 - 1  # of one protobuf message
_THEIR_NAME = {"pixels": "pixel_values"}


def shared_graphs(bundle: Bundle) -> dict[str, bytes]:
    """Return the graphs of a bundle by their file names.

    A model of images alone is one graph, `pixel_values` to `pooler_output`. The graph of both
    towers is left out where it would pass two gigabytes, which no ONNX file may. ExportError when a
    graph cannot be read, or the towers are written in different versions of ONNX.
    """
    manifest = bundle.manifest
    width = manifest.embedding_dim
    vision = _Half.read(bundle, IMAGE_FILE, "vision", "images")
    if manifest.text is None:
        return {WHOLE_GRAPH: _written([vision], _plain_end(vision, "pooler_output", width))}
    text = _Half.read(bundle, TEXT_FILE, "text", "texts")
    graphs = {
        VISION_GRAPH: _written([vision], _plain_end(vision, "image_embeds", width)),
        TEXT_GRAPH: _written([text], _plain_end(text, "text_embeds", width)),
    }
    if sum(map(len, graphs.values())) < _LARGEST_BYTES:
        graphs[WHOLE_GRAPH] = _written([vision, text], _logits_end(vision, text, manifest))
    return graphs


class _Half(NamedTuple):
    """A tower whose every name begins with its own; inputs: its ports as others know them."""

    proto: onnx.ModelProto
    inputs: list[onnx.ValueInfoProto]
    feeds: list[onnx.NodeProto]
    embedding: str
    batch: str

    @classmethod
    def read(cls, bundle: Bundle, file: str, name: str, batch: str) -> _Half:
        """Read a graph of a bundle; batch: what its free first axis is called."""
        path, prefix = bundle.path(file), f"{name}/"
        try:
            proto = compose.add_prefix(onnx.load(path, load_external_data=False), prefix)
        except Exception as error:  # protobuf and onnx raise a dozen types
            raise ExportError(
                f"{path} is no readable ONNX file ({error}); pull or export the bundle again"
            ) from error
        inputs, feeds = [], []
        for port in proto.graph.input:
            ours = port.name.removeprefix(prefix)
            given = onnx.ValueInfoProto()
            given.CopyFrom(port)
            given.name = _THEIR_NAME.get(ours, ours)
            given.type.tensor_type.shape.dim[0].dim_param = batch
            inputs.append(given)
            feeds.append(helper.make_node("Identity", [given.name], [port.name]))
        return cls(proto, inputs, feeds, f"{prefix}embedding", batch)


class _End(NamedTuple):
    """What follows the towers."""

    nodes: list[onnx.NodeProto]
    outputs: list[onnx.ValueInfoProto]
    constants: list[TensorProto]


def _plain_end(half: _Half, name: str, width: int) -> _End:
    node = helper.make_node("Identity", [half.embedding], [name])
    return _End([node], [_output(name, half.batch, width)], [])


def _logits_end(vision: _Half, text: _Half, manifest: Manifest) -> _End:
    """Scale the cosines and add the bias, as transformers' CLIPModel and SiglipModel do."""
    make, width = helper.make_node, manifest.embedding_dim
    nodes = [
        *_unit_rows(vision.embedding, "image_embeds"),
        *_unit_rows(text.embedding, "text_embeds"),
        make("Transpose", ["image_embeds"], ["image_columns"], perm=[1, 0]),
        make("MatMul", ["text_embeds", "image_columns"], ["cosines"]),
        make("Mul", ["cosines", "logit_scale"], ["scaled"]),
        make("Add", ["scaled", "logit_bias"], ["logits_per_text"]),
        make("Transpose", ["logits_per_text"], ["logits_per_image"], perm=[1, 0]),
    ]
    outputs = [
        _output("logits_per_image", vision.batch, text.batch),
        _output("logits_per_text", text.batch, vision.batch),
        _output("text_embeds", text.batch, width),
        _output("image_embeds", vision.batch, width),
    ]
    constants = [
        numpy_helper.from_array(np.float32(manifest.logit_scale), "logit_scale"),
        numpy_helper.from_array(np.float32(manifest.logit_bias), "logit_bias"),
        numpy_helper.from_array(np.array([1]), "rows"),
    ]
    return _End(nodes, outputs, constants)


def _unit_rows(rows: str, unit: str) -> list[onnx.NodeProto]:
    """Divide rows by their length, in operators that every version of ONNX writes alike."""
    make = helper.make_node
    return [
        make("Mul", [rows, rows], [f"{unit}/squares"]),
        make("ReduceSum", [f"{unit}/squares", "rows"], [f"{unit}/square"], keepdims=1),
        make("Sqrt", [f"{unit}/square"], [f"{unit}/length"]),
        make("Div", [rows, f"{unit}/length"], [unit]),
    ]


def _output(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _written(halves: Sequence[_Half], end: _End) -> bytes:
    graph = helper.make_graph(
        [node for half in halves for node in (*half.feeds, *half.proto.graph.node)] + end.nodes,
        "shared",
        [port for half in halves for port in half.inputs],
        end.outputs,
        [t for half in halves for t in half.proto.graph.initializer] + end.constants,
    )
    protos = [half.proto for half in halves]
    proto = helper.make_model(
        graph,
        producer_name="miniclip",
        opset_imports=_opsets(protos),
        functions=[function for proto in protos for function in proto.functions],
        ir_version=max(proto.ir_version for proto in protos),
    )
    content: bytes = proto.SerializeToString()
    return content


def _opsets(protos: Sequence[onnx.ModelProto]) -> list[onnx.OperatorSetIdProto]:
    versions: dict[str, int] = {}
    for entry in (entry for proto in protos for entry in proto.opset_import):
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ExportError(
                f"the towers are written in versions {versions[domain]} and {entry.version} of "
                f"ONNX's operators {domain or 'ai.onnx'}; pull or export the bundle again, so that "
                "both are made by the same tools"
            )
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]
