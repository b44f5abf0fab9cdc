"""One tower in another precision: graph in, graph out. Whether it is any good, `run` finds out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from miniclip.arrays import FloatArray, unit_rows
from miniclip.cpus import usable_cpus
from miniclip.errors import ExportError
from miniclip.onnx_encoder import OnnxGraph
from miniclip.quantize.fuse import fuse_attention, patches_as_product
from miniclip.quantize.graph import Graph
from miniclip.quantize.int8 import quantise_products
from miniclip.quantize.products import find_products, observe
from miniclip.tower_graph import Feeds, Ports

_SAME = 1e-4  # the largest difference of unit rows that another order of sums explains


def to_float16(path: Path) -> bytes:
    """Compute in float16: faster where the processor multiplies in it, and half the size."""
    graph = Graph.read(path).to_model()
    halved: onnx.ModelProto = convert_float_to_float16(graph, keep_io_types=True)
    content: bytes = halved.SerializeToString()
    return content


def to_int8(path: Path, feeds: Sequence[Feeds], *, portable: bool) -> bytes:
    """Compute in int8 what takes the time.

    feeds: batches of what the tower will meet, by input name: they fix the scales. portable: use
    operators of the ONNX standard alone, for runtimes other than onnxruntime, at some cost there.
    ExportError when there is nothing to gain.
    """
    with TemporaryDirectory(prefix="miniclip-quantize-") as directory:
        plain, small = Path(directory, "plain.onnx"), Path(directory, "small.onnx")
        plain.write_bytes(_prepared(path, feeds[0], portable=portable))
        graph = Graph.read(plain)
        if _is_convolutional(graph):
            from miniclip.quantize.convolutions import quantise_convolutions  # noqa: PLC0415

            quantise_convolutions(plain, small, feeds)
            return small.read_bytes()
        seen = observe(plain, feeds) if find_products(graph) else {}
        if not quantise_products(graph, seen, portable=portable):
            raise ExportError(f"{path} has no products to compute in int8; leave it as it is")
        return graph.to_bytes()


def _prepared(path: Path, batch: Feeds, *, portable: bool) -> bytes:
    """Join what can be joined, if the tower then still computes the same."""
    graph = Graph.read(path)
    plain = graph.to_bytes()
    if not portable:
        fuse_attention(graph)
    patches_as_product(graph)
    joined = graph.to_bytes()
    expected, found = (_embed(content, batch, graph.inputs) for content in (plain, joined))
    same = bool(np.abs(expected - found).max() < _SAME)
    return joined if same else plain


def _embed(content: bytes, batch: Feeds, inputs: Ports) -> FloatArray:
    with TemporaryDirectory(prefix="miniclip-quantize-") as directory:
        path = Path(directory, "tower.onnx")
        path.write_bytes(content)
        outputs: Ports = {"embedding": ("tensor(float)", None)}
        (rows,) = OnnxGraph(path, usable_cpus(), inputs, outputs).run(batch)
    return unit_rows(rows)


def _is_convolutional(graph: Graph) -> bool:
    convolutions = sum(node.op_type == "Conv" for node in graph.nodes)
    return bool(convolutions > len(find_products(graph)))
