"""Layouts of ready-made ONNX models on disk, exported from small random checkpoints.

They are written as the tools of transformers.js and Immich write them: with the older tracer of
torch, free batches there and single items here.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests.hub_checkpoints import SIDE

SMALL_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
CONTEXT = 77


class Outputs(nn.Module):
    """Some outputs of a model, by name, so that a graph has no other."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(getattr(found, name) for name in self.outputs)


class Projected(nn.Module):
    """A tower and its projection, as `CLIPVisionModelWithProjection`."""

    def __init__(self, tower: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection

    def forward(self, item: Tensor) -> tuple[Tensor, Tensor]:
        found = self.tower(item)
        return found.last_hidden_state, self.projection(found.pooler_output)


def transformers_js(checkpoint: Path, directory: Path, *, combined: bool = True) -> Path:
    """Write the small files, and onnx/{vision_model,text_model,model}.onnx of a CLIP."""
    (directory / "onnx").mkdir(parents=True)
    for name in SMALL_FILES:
        shutil.copyfile(checkpoint / name, directory / name)
    model = transformers.CLIPModel.from_pretrained(checkpoint).eval()
    export(
        Projected(model.vision_model, model.visual_projection),
        directory / "onnx" / "vision_model.onnx",
        {"pixel_values": pixels()},
        ["last_hidden_state", "image_embeds"],
    )
    export(
        Projected(model.text_model, model.text_projection),
        directory / "onnx" / "text_model.onnx",
        {"input_ids": tokens()},
        ["last_hidden_state", "text_embeds"],
    )
    if combined:
        combined_graph(checkpoint, directory / "onnx" / "model.onnx")
    return directory


def combined_graph(checkpoint: Path, path: Path) -> None:
    """Write the graph of both towers and their logits, as the exporter of optimum does."""
    names = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    inputs = {
        "input_ids": tokens(),
        "pixel_values": pixels(),
        "attention_mask": torch.ones(2, 8, dtype=torch.int64),
    }
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    export(Outputs(model, list(inputs), names), path, inputs, names)


def immich(checkpoint: Path, directory: Path) -> Path:
    """Write visual/ and textual/ of a CLIP: int32 tokens, one item at a time, unit rows."""
    for folder in ("visual", "textual"):
        (directory / folder).mkdir(parents=True)
    model = transformers.CLIPModel.from_pretrained(checkpoint).eval()
    export(
        Unit(model.vision_model, model.visual_projection),
        directory / "visual" / "model.onnx",
        {"image": pixels()[:1]},
        ["embedding"],
        free=False,
    )
    ids = torch.full((1, CONTEXT), 5, dtype=torch.int32)
    export(
        Unit(model.text_model, model.text_projection),
        directory / "textual" / "model.onnx",
        {"text": ids},
        ["embedding"],
        free=False,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint / name, directory / "textual" / name)
    processor = json.loads((checkpoint / "preprocessor_config.json").read_text())
    text = model.config.text_config
    write_json(
        directory / "visual" / "preprocess_cfg.json",
        {
            "size": [SIDE, SIDE],
            "mode": "RGB",
            "mean": processor["image_mean"],
            "std": processor["image_std"],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        },
    )
    write_json(
        directory / "config.json",
        {
            "embed_dim": model.config.projection_dim,
            "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": text.vocab_size, "layers": 2},
        },
    )
    return directory


class Unit(Projected):
    """The same to unit length, as `encode_image(..., normalize=True)` of OpenCLIP."""

    def forward(self, item: Tensor) -> Tensor:  # type: ignore[override]
        _, embedding = super().forward(item.long() if item.dtype is torch.int32 else item)
        return nn.functional.normalize(embedding, dim=-1)


def export(
    model: nn.Module,
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    free: bool = True,
) -> None:
    """Trace a model; free: whether batch, length, height and width may vary."""
    axes = {"pixel_values": {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}}
    axes = axes | {
        name: {0: "batch_size", 1: "sequence_length"} for name in inputs if name not in axes
    }
    axes = axes | {name: {0: "batch_size"} for name in outputs}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes if free else None,
            opset_version=14,
            dynamo=False,
        )


def pixels() -> Tensor:
    return torch.zeros(2, 3, SIDE, SIDE)


def tokens() -> Tensor:
    return torch.full((2, 8), 5, dtype=torch.int64)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values))


def edit_json(path: Path, **changes: Any) -> None:
    """Overwrite keys; a value of None takes the key out."""
    values = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in values.items() if value is not None})
