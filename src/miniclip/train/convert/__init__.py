"""From a Hugging Face checkpoint on disk to a bundle whose vectors are those of the original.

`checkpoint` reads and checks the files, the graphs are traced from the original's own modules, and
nothing is written that was not compared with the original library's processor and model.
Downloading is done elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import torch
import transformers

from miniclip.bundle import (
    CARD_FILE,
    IMAGE_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    Bundle,
    write_bundle,
)
from miniclip.errors import ConfigError
from miniclip.manifest import Manifest, Parity
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.early_pooling import pool_early
from miniclip.pull.parity import (
    MIN_COSINE,
    MIN_LOSSY_COSINE,
    ProbeVectors,
    compare,
    encode_probes,
    write_parity,
)
from miniclip.train.convert.checkpoint import Checkpoint, read_checkpoint
from miniclip.train.export.bundle import Label
from miniclip.train.export.onnx_graphs import traced
from miniclip.train.export.small_weights import shrink

Precision = Literal["float32", "float16", "int8"]
"""How the weights are stored; all compute in float32."""

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
    accept: Collection[str] = (),
) -> Bundle:
    """Write the checkpoint in a directory as a bundle.

    name, licence: as in `Manifest`. origin, revision: where the checkpoint came from, for the
    provenance. card: the text of model_card.md. accept: keys whose unusual values are right.
    BundleError, by name of file and key, when something is missing, unusual or contradictory;
    ExportError when a probe's vector differs from the original's by a cosine below 0.99999 in
    float32, or below 0.999 with smaller weights. Nothing is written then.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision is {precision!r}; choose one of {get_args(Precision)}")
    checkpoint = read_checkpoint(Path(source), accept=accept)
    history = {
        "source": origin or Path(source).absolute().name,
        "revision": revision or "",
        "family": checkpoint.kind,
        "converted_by": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "assumed": "; ".join(checkpoint.assumed),
        "accepted": ", ".join(accept),
    }
    label = Label(name, licence, {key: text for key, text in history.items() if text}, card)
    expected = checkpoint.original.encode_probes()
    graphs = _graphs(checkpoint)
    with tempfile.TemporaryDirectory(prefix="miniclip-convert-") as trials:

        def tried(weights: Precision) -> Bundle:
            files: dict[str, Path | bytes] = {
                file: shrink(graph, weights).SerializeToString() for file, graph in graphs.items()
            }
            if checkpoint.texts:
                files[TOKENIZER_FILE] = checkpoint.texts.content
            if card is not None:
                files[CARD_FILE] = card.encode()
            manifest = _manifest(checkpoint, expected, label, weights)
            return write_bundle(Path(trials, weights), manifest=manifest, files=files)

        exact = tried("float32")
        if precision == "float32":
            return write_parity(out, exact, expected, OnnxEncoder.open(exact), least=MIN_COSINE)
        found = encode_probes(OnnxEncoder.open(exact), texts=expected.texts is not None)
        compare(expected, found, least=MIN_COSINE)
        small = tried(precision)
        return write_parity(out, small, expected, OnnxEncoder.open(small), least=MIN_LOSSY_COSINE)


def _graphs(checkpoint: Checkpoint) -> dict[str, onnx.ModelProto]:
    batch = torch.export.Dim("B")
    pixels = {"pixels": torch.ones(_EXAMPLE_BATCH, *checkpoint.image_spec.shape)}
    graphs = {IMAGE_FILE: traced(checkpoint.image, pixels, {"pixels": {0: batch}})}
    if checkpoint.text and checkpoint.texts:
        spec = checkpoint.texts.spec
        length = spec.context_length if spec.pad == "max" else _EXAMPLE_TOKENS
        ones = torch.ones(_EXAMPLE_BATCH, length, dtype=torch.int64)
        tokens = {"input_ids": ones, "attention_mask": ones.clone()}
        axes: dict[int, Any] = {0: batch}
        if spec.pad == "longest":
            axes[1] = torch.export.Dim("T", max=spec.context_length)
        graphs[TEXT_FILE] = traced(checkpoint.text, tokens, dict.fromkeys(tokens, axes))
    for graph in graphs.values():
        pool_early(graph)
    return graphs


def _manifest(
    checkpoint: Checkpoint, expected: ProbeVectors, label: Label, precision: Precision
) -> Manifest:
    """Make a manifest whose parity is yet to be measured."""
    has_texts = expected.texts is not None
    return Manifest(
        name=label.name,
        embedding_dim=expected.images.shape[1],
        feature_dim=expected.features.shape[1],
        image=checkpoint.image_spec,
        text=checkpoint.texts.spec if checkpoint.texts else None,
        logit_scale=checkpoint.logit_scale,
        logit_bias=checkpoint.logit_bias,
        licence=label.licence,
        provenance=label.provenance,
        weights={"image": precision} | ({"text": precision} if has_texts else {}),
        parity=Parity(
            image_cosine_min=0.0,
            text_cosine_min=0.0 if has_texts else None,
            photos=1,
            sentences=int(has_texts),
        ),
    )
