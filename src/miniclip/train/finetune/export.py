"""From a tuned tower to a bundle: a new image graph, with everything else as it was.

The projection of the old graph is kept and put behind the new features; the text half is copied.
Nothing is written that does not give the tower's features through the real encoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, helper, numpy_helper
from onnx.utils import Extractor
from torch import Tensor, nn

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import CARD_FILE, IMAGE_FILE, PARITY_FILE, Bundle, write_bundle
from miniclip.errors import ExportError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.probes import probe_photos
from miniclip.train.export.bundle import MIN_COSINE, MIN_SMALL_COSINE
from miniclip.train.export.onnx_graphs import trunk_graph
from miniclip.train.export.small_weights import STORAGES, Storage, shrink
from miniclip.train.finetune.source import Looks

_FEATURES, _EMBEDDING = "features", "embedding"


def export_tuned(
    looks: Looks, bundle: Bundle, directory: Path, *, name: str, provenance: Mapping[str, str]
) -> Bundle:
    """Write the bundle of a tuned tower.

    bundle: the one that was tuned; its text half, its projection, the parts of its features, its
    storage of weights and its licence stay. provenance: added to its own. ExportError, and nothing
    written, when the graph and the tower differ.
    """
    parts = bundle.manifest.feature_parts
    described = _Described(looks, len(parts)).cpu().float().eval().requires_grad_(False)
    graph = _with_projection(
        trunk_graph(described, looks.tower.image_spec.side),
        onnx.load(bundle.path(IMAGE_FILE)),
        parts[0] if len(parts) > 1 else None,
    )
    manifest = replace(
        bundle.manifest, name=name, provenance={**bundle.manifest.provenance, **provenance}
    )
    replaced = (IMAGE_FILE, CARD_FILE, PARITY_FILE)  # they speak of the old tower
    texts = {file: bundle.path(file) for file in bundle.files if file not in replaced}
    wanted = bundle.manifest.weights.get("image", "float32")
    storages: tuple[tuple[Storage, float], ...] = (("float32", MIN_COSINE),)
    storages += tuple((known, MIN_SMALL_COSINE) for known in STORAGES if known == wanted)
    with tempfile.TemporaryDirectory(prefix="miniclip-export-") as folder:
        for storage, least in storages:
            image = shrink(graph, storage).SerializeToString()
            trial = write_bundle(
                Path(folder) / storage, manifest=manifest, files={**texts, IMAGE_FILE: image}
            )
            cosine = _parity(described, trial)
            if not cosine >= least:
                raise ExportError(
                    f"the {storage} graph and the tuned tower differ: the least cosine of their "
                    f"features is {cosine:.6f}, but must be at least {least}; report this "
                    "architecture as one that cannot be exported"
                )
        parity = replace(manifest.parity, image_cosine_min=cosine)
        manifest = replace(manifest, parity=parity, weights={**manifest.weights, "image": storage})
        return write_bundle(directory, manifest=manifest, files={**texts, IMAGE_FILE: image})


class _Described(nn.Module):
    """Looks at an image, with the first so many parts of what the tower says of it."""

    def __init__(self, looks: Looks, parts: int) -> None:
        super().__init__()
        self.looks = looks
        self.parts = parts

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, F), the mean over the looks."""
        said = [self.looks.tower.described(look) for look in self.looks.looks(pixels)]
        return torch.stack([torch.cat(parts[: self.parts], dim=1) for parts in said]).mean(0)


def _with_projection(
    tower: onnx.ModelProto, old: onnx.ModelProto, projected: int | None
) -> onnx.ModelProto:
    """Put what the old image graph makes of features behind the graph of a tower.

    tower: `pixels` to `output`. projected: how many of the features are projected, where others
    follow them, unless the projection reads them all. ExportError when the old graph hides its
    projection.
    """
    try:
        pooled, given = _FEATURES, "output"
        reads_all = any(_FEATURES in node.input for node in old.graph.node)
        if projected is not None and not reads_all:
            pooled, given = _pooled(old.graph, projected), _first(tower.graph, projected)
        projection = Extractor(old).extract_model([pooled], [_EMBEDDING])
        joined = compose.merge_models(
            compose.add_prefix(tower, "tower/"),
            compose.add_prefix(projection, "head/"),
            io_map=[(f"tower/{given}", f"head/{pooled}")],
            outputs=["tower/output", f"head/{_EMBEDDING}"],
        )
    except Exception as error:  # onnx raises a dozen types
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(
            f"the projection of the old image graph cannot be kept ({first_line}); "
            "export the bundle again with this version of miniclip"
        ) from error
    ports = {"tower/pixels": "pixels", "tower/output": _FEATURES, f"head/{_EMBEDDING}": _EMBEDDING}
    _rename(joined.graph, ports)
    return joined


def _pooled(graph: onnx.GraphProto, width: int) -> str:
    """Name the features that are projected, of a graph that puts textures behind them."""
    joined = next(node for node in graph.node if _FEATURES in node.output)
    name: str = joined.input[0]
    if all(value.name != name for value in graph.value_info):  # files may not say the shape
        shape = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", width])
        graph.value_info.append(shape)
    return name


def _first(graph: onnx.GraphProto, width: int) -> str:
    """Name the first so many columns of the `output` of a graph, a further output of it."""
    ends = [("from", [0]), ("to", [width]), ("axis", [1])]
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, dtype=np.int64), f"first_{name}")
        for name, value in ends
    )
    sliced = ["output", *(f"first_{name}" for name, _ in ends)]
    graph.node.append(helper.make_node("Slice", sliced, ["first"]))
    shape = helper.make_tensor_value_info("first", onnx.TensorProto.FLOAT, ["B", width])
    graph.output.append(shape)
    return "first"


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(end, end) for end in ends]
    for port in (*graph.input, *graph.output):
        port.name = names.get(port.name, port.name)


def _parity(described: _Described, bundle: Bundle) -> float:
    """Return the least cosine between features of the tower and of the bundle."""
    pixels = np.stack([preprocess(photo, bundle.manifest.image) for photo in probe_photos()])
    with torch.no_grad():
        expected: FloatArray = described(torch.from_numpy(pixels)).numpy()
    found = OnnxEncoder.open(bundle).encode_pixels(pixels).features
    return float(np.sum(unit_rows(expected) * unit_rows(found), axis=1, dtype=np.float64).min())
