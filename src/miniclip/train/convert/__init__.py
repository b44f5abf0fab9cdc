"""From a Hugging Face checkpoint on disk to a bundle whose vectors are those of the original.

What the files say is read strictly, the graphs are traced from the original's own modules, and
nothing is written that was not compared with the original library's processor and model.
Downloading is done elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
import transformers
from torch import nn

from miniclip.bundle import (
    CARD_FILE,
    IMAGE_FILE,
    PARITY_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    Bundle,
    write_bundle,
)
from miniclip.errors import BundleError, ConfigError
from miniclip.manifest import Manifest, Parity
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.documents import Document
from miniclip.pull.image_specs import image_spec_from, read_preprocessor
from miniclip.pull.parity import MIN_COSINE, MIN_LOSSY_COSINE, compare, encode_probes
from miniclip.pull.probes import PROBE_SENTENCES
from miniclip.tokenizer import TextSpec, Tokenizer
from miniclip.train.convert.families import FAMILIES, image_half, text_half
from miniclip.train.convert.original import (
    Original,
    load_image_processor,
    load_model,
    load_tokenizer,
)
from miniclip.train.convert.texts import check_tokens, read_texts
from miniclip.train.export.onnx_graphs import traced
from miniclip.train.export.small_weights import Storage, shrink

Precision = Literal["float32", "float16", "int8"]
LEAST_COSINE: Mapping[Precision, float] = {
    "float32": MIN_COSINE,
    "float16": MIN_LOSSY_COSINE,
    "int8": 0.95,
}
"""Of any probe, ours against the original's."""

_STORAGE: Mapping[Precision, Storage] = {"float32": "float32", "float16": "float16", "int8": "int8"}
_UNMEASURED = Parity(image_cosine_min=0.0, text_cosine_min=0.0, photos=1, sentences=1)
_EXAMPLE_BATCH, _EXAMPLE_TOKENS = 2, 8  # 0 and 1 would be taken for constants


def convert(
    source: Path | str,
    out: Path | str,
    *,
    name: str,
    licence: str,
    precision: Precision = "float32",
    origin: str | None = None,
    revision: str | None = None,
    card: str | None = None,
) -> Bundle:
    """Write a checkpoint's directory as a bundle.

    name, licence: as in `Manifest`; precision: how the weights are stored; origin, revision: where
    the checkpoint came from, for the provenance; card: the text of model_card.md.
    BundleError when a file is missing or contradicts another, by name of file and key; ExportError
    when the vectors differ from the original's by more than LEAST_COSINE allows.
    """
    if precision not in LEAST_COSINE:
        raise ConfigError(f"precision is {precision!r}; choose one of {', '.join(LEAST_COSINE)}")
    directory = Path(source)
    config = Document.read(directory / "config.json")
    kind = config.need_as("model_type", str)
    if kind not in FAMILIES:
        raise BundleError(
            f"{config.where} says model_type = {kind!r}; known are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[kind]
    spec = image_spec_from(read_preprocessor(directory))
    loaded = load_model(directory, family.model_class)
    model: Any = loaded.model
    tokenizer = load_tokenizer(directory)
    texts = read_texts(directory, family, tokenizer, config.part("text_config"))
    original = Original(
        model,
        load_image_processor(directory),
        load_tokenizer(directory),
        pads=family.pads,
        context_length=texts.spec.context_length,
    )
    image = _image_graph(image_half(family, model), spec.side)
    text = _text_graph(text_half(family, model, uses_mask=texts.uses_mask), texts.spec)
    manifest = Manifest(
        name=name,
        embedding_dim=_width(image, "embedding"),
        feature_dim=_width(image, "features"),
        image=spec,
        text=texts.spec,
        logit_scale=float(model.logit_scale.exp()),
        logit_bias=float(model.logit_bias) if family.has_bias else 0.0,
        licence=licence,
        provenance=_provenance(kind, origin or directory.name, revision),
        parity=_UNMEASURED,
    )
    expected = original.encode_probes()
    with tempfile.TemporaryDirectory(prefix="miniclip-convert-") as trial:
        for step in dict.fromkeys(("float32", precision)):
            files: dict[str, Path | bytes] = {
                IMAGE_FILE: shrink(image, _STORAGE[step]).SerializeToString(),
                TEXT_FILE: shrink(text, _STORAGE[step]).SerializeToString(),
                TOKENIZER_FILE: texts.content,
            }
            bundle = write_bundle(Path(trial, step), manifest=manifest, files=files)
            check_tokens(
                Tokenizer.from_file(bundle.path(TOKENIZER_FILE), texts.spec),
                original,
                PROBE_SENTENCES,
            )
            parity = compare(
                expected, encode_probes(OnnxEncoder.open(bundle)), least=LEAST_COSINE[step]
            )
        files[PARITY_FILE] = expected.to_bytes()
        if card is not None:
            files[CARD_FILE] = card.encode()
        manifest = replace(
            manifest,
            weights={"image": _STORAGE[precision], "text": _STORAGE[precision]},
            parity=parity,
        )
        return write_bundle(out, manifest=manifest, files=files)


def _image_graph(half: nn.Module, side: int) -> onnx.ModelProto:
    inputs = {"pixels": torch.zeros(_EXAMPLE_BATCH, 3, side, side)}
    return traced(half, inputs, {"pixels": {0: torch.export.Dim("B")}})


def _text_graph(half: nn.Module, spec: TextSpec) -> onnx.ModelProto:
    length = spec.context_length if spec.pad == "max" else _EXAMPLE_TOKENS
    axes: dict[int, Any] = {0: torch.export.Dim("B")}
    if spec.pad == "longest":
        axes[1] = torch.export.Dim("T", max=spec.context_length)
    ones = torch.ones(_EXAMPLE_BATCH, length, dtype=torch.int64)
    inputs = {"input_ids": ones, "attention_mask": ones.clone()}
    return traced(half, inputs, dict.fromkeys(inputs, axes))


def _width(graph: onnx.ModelProto, name: str) -> int:
    (port,) = (port for port in graph.graph.output if port.name == name)
    return int(port.type.tensor_type.shape.dim[1].dim_value)


def _provenance(kind: str, origin: str, revision: str | None) -> dict[str, str]:
    known = {"source": origin, "family": kind, "revision": revision}
    tools = {"converted_by": f"transformers {transformers.__version__}, torch {torch.__version__}"}
    return {key: value for key, value in known.items() if value} | tools
