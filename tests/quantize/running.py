"""Run a graph of the tests on its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from miniclip.onnx_encoder import OnnxGraph
from miniclip.quantize.graph import Graph
from tests.quantize.tiny_transformer import SIDE

Feeds = Mapping[str, NDArray[Any]]


def run(content: bytes, feeds: Feeds, output: str = "embedding") -> NDArray[np.float32]:
    with TemporaryDirectory() as directory:
        path = Path(directory, "graph.onnx")
        path.write_bytes(content)
        (rows,) = OnnxGraph(
            path, 1, Graph.read(path).inputs, {output: ("tensor(float)", None)}
        ).run(feeds)
    return rows


def parsed(content: bytes) -> Graph:
    return Graph(onnx.load_from_string(content))


def kinds(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def pixels(count: int, seed: int = 0) -> Feeds:
    values = np.random.default_rng(seed).normal(size=(count, 3, SIDE, SIDE))
    return {"pixels": values.astype(np.float32)}


def tokens() -> Feeds:
    """Three texts of 6, 4 and 2 tokens."""
    ids = np.random.default_rng(3).integers(1, 12, (3, 6))
    mask = np.arange(6) < np.array([[6], [4], [2]])
    return {"input_ids": ids * mask, "attention_mask": mask.astype(np.int64)}


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths  # type: ignore[no-any-return]
