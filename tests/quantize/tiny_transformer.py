"""A transformer of one layer per tower, written node by node as exporters write it.

Random weights: its vectors mean nothing, but every step that a rewriting has to find is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from miniclip.bundle import Bundle, write_bundle
from miniclip.manifest import Manifest, Parity
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import TextSpec
from tests.tiny_bundle import WORDS, tiny_tokenizer

SIDE, PATCH, WIDTH, HEADS, D = 32, 8, 64, 2, 48
CELLS = (SIDE // PATCH) ** 2
DEPTH = WIDTH // HEADS
HALF = (0.5, 0.5, 0.5)
IMAGE_SPEC = ImageSpec(
    side=SIDE, resize="squash", resize_side=SIDE, interpolation="bilinear", mean=HALF, std=HALF
)
MANIFEST = Manifest(
    name="tiny-transformer",
    embedding_dim=D,
    feature_dim=WIDTH,
    image=IMAGE_SPEC,
    text=TextSpec(context_length=16),
    logit_scale=20.0,
    licence="Apache-2.0",
    parity=Parity(image_cosine_min=1.0, text_cosine_min=1.0, photos=1, sentences=1),
)


@dataclass(frozen=True)
class Habits:
    """How an exporter writes attention.

    scale_by: "mul" on query and key, "div" on the query. folded: fold heads into the batch to
    transpose the key, as torch does. heads_open: leave the number of heads to be found out. loud:
    how much louder the first channel of each normalisation is.
    """

    scale_by: str = "mul"
    folded: bool = False
    heads_open: bool = False
    loud: float = 1.0


class Writer:
    """Nodes and weights of one graph; each method returns the name of its result."""

    def __init__(self, seed: int, habits: Habits) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self._random = np.random.default_rng(seed)
        self._habits = habits

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int, name: str = "") -> str:
        values = self._random.normal(size=shape) / np.sqrt(shape[0])
        return self.constant(values.astype(np.float32), name)

    def constant(self, values: Any, name: str = "") -> str:
        name = name or f"constant{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def linear(self, x: str, inner: int, outer: int) -> str:
        return self.node(
            "Add", self.node("MatMul", x, self.weight(inner, outer)), self.weight(outer)
        )

    def norm(self, x: str) -> str:
        gain = np.ones(WIDTH, dtype=np.float32)
        gain[0] = self._habits.loud
        return self.node(
            "LayerNormalization", x, self.constant(gain), self.weight(WIDTH), axis=-1, epsilon=1e-5
        )

    def shape(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, dtype=np.int64))

    def attention(self, x: str, length: int, mask: str = "") -> str:
        """Softmax of q k' / sqrt(d), times v, as the habits say."""
        heads = -1 if self._habits.heads_open else HEADS
        length = 0 if self._habits.heads_open else length  # 0: as it is
        split = self.shape(0, length, heads, DEPTH)
        query, key, value = (
            self.node("Transpose", self.node("Reshape", self.linear(x, WIDTH, WIDTH), split),
                      perm=[0, 2, 1, 3])
            for _ in range(3)
        )  # fmt: skip
        if self._habits.folded:
            folded = self.node("Reshape", key, self.shape(-1, length or CELLS, DEPTH))
            turned = self.node("Transpose", folded, perm=[0, 2, 1])
            key = self.node("Reshape", turned, self.shape(-1, HEADS, DEPTH, length or CELLS))
        else:
            key = self.node("Transpose", key, perm=[0, 1, 3, 2])
        if self._habits.scale_by == "mul":
            root = self.constant(np.array([DEPTH**-0.25], dtype=np.float32))
            query, key = self.node("Mul", query, root), self.node("Mul", key, root)
        else:
            whole = self.constant(np.array(DEPTH**0.5, dtype=np.float32))
            query = self.node("Div", query, whole)
        scores = self.node("MatMul", query, key)
        if mask:
            scores = self.node("Add", scores, mask)
        shares = self.node("Softmax", scores, axis=-1)
        if mask:
            zero = self.constant(np.array(0, dtype=np.float32))
            shares = self.node("Where", self.node("IsNaN", shares), zero, shares)
        mixed = self.node("Transpose", self.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self.linear(self.node("Reshape", mixed, self.shape(0, -1, WIDTH)), WIDTH, WIDTH)

    def layer(self, x: str, length: int, mask: str = "") -> str:
        x = self.node("Add", x, self.attention(self.norm(x), length, mask))
        inner = self.linear(self.norm(x), WIDTH, 2 * WIDTH)
        factor = self.constant(np.array(1.702, dtype=np.float32))
        gate = self.node("Sigmoid", self.node("Mul", inner, factor))
        return self.node("Add", x, self.linear(self.node("Mul", inner, gate), 2 * WIDTH, WIDTH))

    def finish(self, x: str, inputs: dict[str, tuple[int, list[int | str]]]) -> bytes:
        """Average, project and serialise."""
        self.node("ReduceMean", self.norm(x), self.shape(1), name="features", keepdims=0)
        self.node("MatMul", "features", self.weight(WIDTH, D), name="embedding")
        outputs = {"embedding": D, "features": WIDTH}
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])
                for name, size in outputs.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def image_graph(habits: Habits | None = None) -> bytes:
    """Patches by a convolution, one layer, the mean."""
    writer = Writer(0, habits or Habits())
    cut = writer.node(
        "Conv", "pixels", writer.weight(WIDTH, 3, PATCH, PATCH), writer.weight(WIDTH),
        kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH],
    )  # fmt: skip
    rows = writer.node("Reshape", cut, writer.shape(0, WIDTH, CELLS))
    tokens = writer.node("Transpose", rows, perm=[0, 2, 1])
    tokens = writer.node("Add", tokens, writer.weight(CELLS, WIDTH))
    return writer.finish(
        writer.layer(tokens, CELLS), {"pixels": (TensorProto.FLOAT, ["B", 3, SIDE, SIDE])}
    )


def text_graph() -> bytes:
    """Look up, one layer under the mask, the mean of all places."""
    writer = Writer(1, Habits(heads_open=True))
    found = writer.node("Gather", writer.weight(len(WORDS), WIDTH), "input_ids")
    kept = writer.node("Cast", "attention_mask", to=TensorProto.BOOL)
    zero, far = (writer.constant(np.array(x, dtype=np.float32)) for x in (0, -1e9))
    bias = writer.node("Where", kept, zero, far)
    mask = writer.node("Unsqueeze", bias, writer.shape(1, 2))
    port: tuple[int, list[int | str]] = (TensorProto.INT64, ["B", "T"])
    return writer.finish(writer.layer(found, 0, mask), {"input_ids": port, "attention_mask": port})


def build(directory: Any) -> Bundle:
    """Write the bundle to a directory."""
    files: dict[str, Any] = {
        "image.onnx": image_graph(),
        "text.onnx": text_graph(),
        "tokenizer.json": tiny_tokenizer().to_str().encode(),
    }
    return write_bundle(directory, manifest=MANIFEST, files=files)
