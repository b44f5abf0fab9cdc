"""From a Hugging Face checkpoint on disk to a bundle whose vectors are those of the original.

`checkpoint` reads and checks the files, the graphs are traced from the original's own modules, and
nothing is written that was not compared with the original library's processor and model.
Downloading is done elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
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
from miniclip.pull.parity import (
    MIN_COSINE,
    MIN_LOSSY_COSINE,
    ProbeVectors,
    compare,
    encode_probes,
    write_parity,
)
from miniclip.train.convert.checkpoint import Checkpoint, read_checkpoint
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
    origins = {"source": origin or Path(source).absolute().name, "revision": revision or ""}
    provenance = {key: value for key, value in origins.items() if value}
    expected = checkpoint.original.encode_probes()
    graphs = _graphs(checkpoint)
    with tempfile.TemporaryDirectory(prefix="miniclip-convert-") as trials:

        def tried(weights: Precision) -> Bundle:
            files = {file: shrink(graphs[file], weights).SerializeToString() for file in graphs}
            manifest = _manifest(checkpoint, expected, name, licence, provenance, weights)
            texts = checkpoint.texts
            return write_bundle(
                Path(trials, weights),
                manifest=manifest,
                files=files
                | ({TOKENIZER_FILE: texts.content} if texts else {})
                | ({CARD_FILE: card.encode()} if card else {}),
            )

        exact = tried("float32")
        if precision == "float32":
            return write_parity(out, exact, expected, OnnxEncoder.open(exact), least=MIN_COSINE)
        found = encode_probes(OnnxEncoder.open(exact), texts=expected.texts is not None)
        compare(expected, found, least=MIN_COSINE)
        small = tried(precision)
        return write_parity(out, small, expected, OnnxEncoder.open(small), least=MIN_LOSSY_COSINE)


def _graphs(checkpoint: Checkpoint) -> dict[str, onnx.ModelProto]:
    batch = torch.export.Dim("B")
    side = checkpoint.image_spec.side
    pixels = {"pixels": torch.zeros(_EXAMPLE_BATCH, 3, side, side)}
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
    return graphs


def _manifest(
    checkpoint: Checkpoint,
    expected: ProbeVectors,
    name: str,
    licence: str,
    provenance: Mapping[str, str],
    precision: Precision,
) -> Manifest:
    """Make a manifest whose parity is yet to be measured."""
    texts = expected.texts is not None
    tools = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return Manifest(
        name=name,
        embedding_dim=expected.images.shape[1],
        feature_dim=expected.features.shape[1],
        image=checkpoint.image_spec,
        text=checkpoint.texts.spec if checkpoint.texts else None,
        logit_scale=checkpoint.logit_scale,
        logit_bias=checkpoint.logit_bias,
        licence=licence,
        provenance={**provenance, "family": checkpoint.kind, "converted_by": tools},
        weights={"image": precision} | ({"text": precision} if texts else {}),
        parity=Parity(
            image_cosine_min=0.0,
            text_cosine_min=0.0 if texts else None,
            photos=1,
            sentences=int(texts),
        ),
    )
