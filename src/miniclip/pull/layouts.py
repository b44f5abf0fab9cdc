"""Which kind of model a set of files is, and which of them are needed. It reads none of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Literal, get_args

from miniclip.errors import BundleError, ConfigError

Precision = Literal["float32", "float16", "int8"]

_SUFFIXES: Mapping[Precision, tuple[str, ...]] = {  # of the files of transformers.js
    "float32": ("",),
    "float16": ("_fp16",),
    "int8": ("_quantized", "_int8", "_uint8"),
}
_ANY_COMBINED = ("_quantized", "_int8", "_uint8", "_fp16", "")  # the smallest first
_IMMICH_GRAPHS = ("visual/model.onnx", "textual/model.onnx")
_OTHER_RUNTIMES = (".armnn", ".rknn")
_OPEN_CLIP_CONFIG = "open_clip_config.json"


class Layout(StrEnum):
    """The kinds of sources."""

    transformers_js = "transformers.js"
    immich = "immich"
    checkpoint = "checkpoint"
    open_clip = "open_clip"

    @property
    def needs_torch(self) -> bool:
        """Whether its graphs are yet to be made."""
        return self in (Layout.checkpoint, Layout.open_clip)


def layout_of(names: Collection[str], source: str) -> Layout:
    """Recognise a source by its file names; ready-made graphs go before checkpoints.

    BundleError when it is none of the kinds.
    """
    if set(_IMMICH_GRAPHS) & set(names):
        return Layout.immich
    if "config.json" in names and any(_is_graph(name) for name in names):
        return Layout.transformers_js
    if "config.json" in names and _weights(names):
        return Layout.checkpoint
    if _OPEN_CLIP_CONFIG in names:
        return Layout.open_clip
    shown = ", ".join(sorted(names)[:8]) or "nothing"
    raise BundleError(
        f"{source} is no model that can be pulled: it holds {shown}; needed are config.json with "
        "weights (model.safetensors) or with onnx/model.onnx, visual/model.onnx with "
        "textual/model.onnx, or open_clip_config.json"
    )


def needed_files(names: Collection[str], layout: Layout, precision: Precision) -> list[str]:
    """Choose what to download. BundleError when there are no graphs of that precision."""
    small = [name for name in names if _says_something(name)]
    if layout is Layout.immich:
        return sorted({*small, *_with_weights(names, immich_graphs(names, precision))})
    if layout is Layout.transformers_js:
        graphs, combined = graph_files(names, precision), combined_files(names)
        if not set(graphs) & set(combined):
            graphs = [*graphs, *(combined[:1] or safetensors(names))]  # for the logits
        return sorted({*small, *_with_weights(names, graphs)})
    return sorted({*small, *_weights(names)})


def graph_files(names: Collection[str], precision: Precision) -> list[str]:
    """Name the graphs of onnx/ for the towers, images first; one name twice if a file holds both.

    BundleError when there are none of that precision.
    """
    check_precision(precision)
    found = {known: _graphs_in(names, known) for known in get_args(Precision)}
    if not found[precision]:
        there = " or ".join(known for known in found if found[known])
        graphs = ", ".join(sorted(name for name in names if _is_graph(name)))
        raise BundleError(
            f"there are no graphs of both towers in {precision}, but {graphs}; "
            + (f"choose --precision {there}" if there else "choose another source")
        )
    return found[precision]


def combined_files(names: Collection[str]) -> list[str]:
    """Name the graphs that hold both towers, the smallest first; their end tells the logits."""
    return [name for suffix in _ANY_COMBINED if (name := f"onnx/model{suffix}.onnx") in names]


def immich_graphs(names: Collection[str], precision: Precision) -> list[str]:
    """Name the graphs of the towers, images first."""
    check_precision(precision)
    if precision != "float32":
        raise BundleError(
            f"graphs of visual/ and textual/ come in float32, not in {precision}; pull them so, "
            "then: miniclip quantize"
        )
    for name in _IMMICH_GRAPHS:
        if name not in names:
            raise BundleError(f"there is no {name}; choose a source that has both towers")
    return list(_IMMICH_GRAPHS)


def safetensors(names: Collection[str]) -> list[str]:
    """Name the weights that hold no code."""
    return sorted(n for n in names if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", n))


def check_precision(precision: str) -> None:
    """Refuse a precision that is none."""
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ConfigError(f"precision is {precision!r}; choose one of {known}")


def _graphs_in(names: Collection[str], precision: Precision) -> list[str]:
    for suffix in _SUFFIXES[precision]:
        pair = [f"onnx/{tower}_model{suffix}.onnx" for tower in ("vision", "text")]
        if set(pair) <= set(names):
            return pair
        if f"onnx/model{suffix}.onnx" in names:
            return [f"onnx/model{suffix}.onnx"] * 2
    return []


def _is_graph(name: str) -> bool:
    return re.fullmatch(r"onnx/\w+\.onnx", name) is not None


def _with_weights(names: Collection[str], graphs: Collection[str]) -> list[str]:
    """Add the weights that lie beside graphs: model.onnx_data, model.onnx_data_1, model.onnx.data.

    In visual/ and textual/ each weight of a large model is a file, of any name.
    """
    return [
        name
        for name in names
        if any(name.startswith(graph) for graph in graphs)
        or (name.rpartition("/")[0] in ("visual", "textual") and not name.endswith(_OTHER_RUNTIMES))
    ]


def _weights(names: Collection[str]) -> list[str]:
    pickled = [n for n in names if re.fullmatch(r"pytorch_model(-\d+-of-\d+)?\.bin", n)]
    other = [
        n for n in names if n in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    ]
    return safetensors(names) or sorted(pickled) or sorted(other)[:1]


def _says_something(name: str) -> bool:
    """Whether it is a small file that may say how a model is used."""
    folder, _, file = name.rpartition("/")
    return folder in ("", "visual", "textual") and (
        file.endswith((".json", ".txt", ".model")) or name in ("README.md", "LICENSE")
    )
