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


def transformers_js(checkpoint: Path, directory: Path, *, split: bool, combined: bool) -> Path:
    """Write the small files, and onnx/{vision_model,text_model}.onnx or onnx/model.onnx or both."""
    (directory / "onnx").mkdir(parents=True)
    for name in SMALL_FILES:
        shutil.copyfile(checkpoint / name, directory / name)
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    ids = tokens(8 if hasattr(model, "text_projection") else 64)  # SigLIP's are always 64
    if split:
        for tower, projection, feed, kind in (
            ("vision", "visual_projection", {"pixel_values": pixels()}, "image"),
            ("text", "text_projection", {"input_ids": ids}, "text"),
        ):
            part = getattr(model, f"{tower}_model")
            path = directory / "onnx" / f"{tower}_model.onnx"
            if hasattr(model, projection):
                wrapped: nn.Module = Projected(part, getattr(model, projection))
                export(wrapped, path, feed, ["last_hidden_state", f"{kind}_embeds"])
            else:  # SigLIP: the pooled output is the embedding
                names = ["last_hidden_state", "pooler_output"]
                export(Outputs(part, list(feed), names), path, feed, names)
    if combined:
        names = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
        feed = {"input_ids": ids, "pixel_values": pixels()}
        if hasattr(model, "text_projection"):
            feed["attention_mask"] = torch.ones_like(ids)
        export(Outputs(model, list(feed), names), directory / "onnx" / "model.onnx", feed, names)
    return directory


def immich(checkpoint: Path, directory: Path) -> Path:
    """Write visual/ and textual/ of a CLIP: int32 tokens, one item at a time, unit rows."""
    for folder in ("visual", "textual"):
        (directory / folder).mkdir(parents=True)
    model = transformers.CLIPModel.from_pretrained(checkpoint).eval()
    for tower, projection, folder, feed in (
        (model.vision_model, model.visual_projection, "visual", {"image": pixels()[:1]}),
        (model.text_model, model.text_projection, "textual", {"text": tokens(CONTEXT)[:1].int()}),
    ):
        path = directory / folder / "model.onnx"
        export(Unit(tower, projection), path, feed, ["embedding"], free=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint / name, directory / "textual" / name)
    processor = json.loads((checkpoint / "preprocessor_config.json").read_text())
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
    rows = model.config.text_config.vocab_size
    write_json(
        directory / "config.json",
        {
            "embed_dim": model.config.projection_dim,
            "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 128, "patch_size": 8},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": rows, "layers": 2},
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


def tokens(length: int = 8) -> Tensor:
    return torch.full((2, length), 5, dtype=torch.int64)


def names_of(directory: Path) -> list[str]:
    """Name all files, relative to a directory."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in paths)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values))


def edit_json(path: Path, **changes: Any) -> None:
    """Overwrite keys; a value of None takes the key out."""
    values = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in values.items() if value is not None})
