"""A transformer whose products run in int8, with scales fixed beforehand.

Fixed scales, and not such as are found anew for each batch: the vector of a photo must not depend
on its neighbours. Attention, normalisation and whatever runs once for an item stay in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from miniclip.arrays import FloatArray
from miniclip.quantize.graph import MICROSOFT, Graph
from miniclip.quantize.products import Product, Range, find_products

_TINY = 1e-5


class _Rounding(NamedTuple):
    """Names of what makes uint8 of a value: its integers, the scale () and the zero point ()."""

    rounded: str
    scale: str
    zero: str


def quantise_products(graph: Graph, seen: Mapping[str, Range], *, portable: bool = False) -> int:
    """Rewrite the products of a graph in place; return how many.

    seen: what goes into them, from `observe` of the same graph. Values are uint8 with one scale and
    zero point, matrices int8 with one scale for each column (Jacob et al. 2018, equation 1).
    portable: write operators of the ONNX standard, which a runtime has to join by itself.
    """
    write = _standard if portable else _joined
    chosen: dict[str, list[Product]] = {}
    for product in find_products(graph):
        if product.source in seen and seen[product.source].rows > 1:
            chosen.setdefault(product.source, []).append(product)
    for source, products in chosen.items():
        factors = _smoothed(graph, source, products, seen[source])
        rounding = _round(graph, source, seen[source], factors)
        for product in products:
            graph.replace(product.last, write(graph, product, rounding, factors))
    return sum(map(len, chosen.values()))


def _smoothed(graph: Graph, source: str, products: list[Product], seen: Range) -> FloatArray:
    """Divide loud channels of a LayerNormalization, and return by what: (K,).

    The matrices behind it take the factors up. SmoothQuant (Xiao et al. 2023, equation 4, with
    alpha 1/2). Ones where something else reads the value too.
    """
    loudness = np.maximum(np.abs(seen.low), np.abs(seen.high))
    factors: FloatArray = np.ones_like(loudness)
    norm = graph.producer(source)
    if norm is None or norm.op_type != "LayerNormalization" or graph.is_output(source):
        return factors
    gain, shift = (graph.constant(name) for name in (*norm.input[1:3], "")[:2])
    alone = len(graph.consumers(source)) == len(products)
    if gain is None or gain.shape != loudness.shape or not alone:
        return factors
    weight = np.max([np.abs(product.matrix).max(axis=1) for product in products], axis=0)
    factors = np.sqrt(np.maximum(loudness, _TINY) / np.maximum(weight, _TINY)).astype(np.float32)
    norm.input[1] = graph.store("gain", gain / factors)
    if shift is not None:
        norm.input[2] = graph.store("shift", shift / factors)
    return factors


def _round(graph: Graph, source: str, seen: Range, factors: FloatArray) -> _Rounding:
    low = min(0.0, float((seen.low / factors).min()))
    high = max(0.0, float((seen.high / factors).max()))
    scale = max(high - low, _TINY) / 255
    rounding = _Rounding(
        graph.new_name("rounded"),
        graph.store("scale", np.array(scale, dtype=np.float32)),
        graph.store("zero", np.array(round(-low / scale), dtype=np.uint8)),
    )
    node = helper.make_node("QuantizeLinear", [source, *rounding[1:]], [rounding.rounded])
    graph.insert([node], before=graph.consumers(source)[0])
    return rounding


def _joined(
    graph: Graph, product: Product, rounding: _Rounding, factors: FloatArray
) -> list[onnx.NodeProto]:
    """One operator of onnxruntime: integers in, float32 with its bias out."""
    integers, scales = _rounded_matrix(graph, product, factors)
    inputs = [rounding.rounded, integers, rounding.scale, scales, rounding.zero]
    if product.bias:
        inputs += ["", product.bias]
    output = product.last.output[0]
    return [helper.make_node("MatMulIntegerToFloat", inputs, [output], domain=MICROSOFT)]


def _standard(
    graph: Graph, product: Product, rounding: _Rounding, factors: FloatArray
) -> list[onnx.NodeProto]:
    """Round and restore both sides of a product in float32 (QDQ)."""
    integers, scales = _rounded_matrix(graph, product, factors)
    value, matrix, result = (graph.new_name(what) for what in ("value", "matrix", "product"))
    output = product.last.output[0]
    nodes = [
        helper.make_node("DequantizeLinear", [*rounding], [value]),
        helper.make_node("DequantizeLinear", [integers, scales], [matrix], axis=1),
        helper.make_node("MatMul", [value, matrix], [result if product.bias else output]),
    ]
    if product.bias:
        nodes.append(helper.make_node("Add", [result, product.bias], [output]))
    return nodes


def _rounded_matrix(graph: Graph, product: Product, factors: FloatArray) -> tuple[str, str]:
    """Store a matrix as int8 (K, N) and scales (N,); return their names."""
    matrix = product.matrix * factors[:, None]
    scales = np.maximum(np.abs(matrix).max(axis=0), _TINY).astype(np.float32) / 127
    integers: NDArray[np.int8] = np.rint(matrix / scales).astype(np.int8)
    return graph.store("matrix", integers), graph.store("scales", scales)
