"""Hugging Face checkpoints of a few kilobytes with random weights, saved as real ones are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    DistilBertModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from miniclip.train.towers.hub import _quiet
from tests.tiny_bundle import WORDS, tiny_tokenizer

SIDE = 32
WIDTH = 16
_TRANSFORMER: Mapping[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_PATCHES: Mapping[str, Any] = {**_TRANSFORMER, "image_size": SIDE, "patch_size": 8}
_CLIP_TEXT = {**_TRANSFORMER, "vocab_size": len(WORDS), "eos_token_id": 3, "bos_token_id": 2}
PREPROCESSOR: Mapping[str, Any] = {
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}


def image_checkpoint(kind: str, directory: Path) -> str:
    """Save a vision model; kind: resnet, vit, dinov2, convnext or clip."""
    torch.manual_seed(1)
    model = {
        "resnet": lambda: ResNetForImageClassification(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, WIDTH], depths=[1, 2])
        ),
        "vit": lambda: ViTForImageClassification(ViTConfig(**_PATCHES)),
        "dinov2": lambda: Dinov2Model(Dinov2Config(**_PATCHES)),
        "convnext": lambda: ConvNextForImageClassification(
            ConvNextConfig(hidden_sizes=[8, 8, 8, WIDTH], depths=[1, 1, 1, 1])
        ),
        "clip": _clip,
    }[kind]()
    _settle_batch_norm(model)
    directory.mkdir(parents=True, exist_ok=True)
    with _quiet():
        model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return str(directory)


def text_checkpoint(kind: str, directory: Path) -> str:
    """Save a text model and its tokenizer; kind: bert, distilbert or clip."""
    torch.manual_seed(2)
    vocabulary = len(WORDS)
    model = {
        "bert": lambda: BertModel(
            BertConfig(**_TRANSFORMER, vocab_size=vocabulary, max_position_embeddings=64)
        ),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(
                dim=WIDTH,
                n_layers=3,
                n_heads=2,
                hidden_dim=32,
                vocab_size=vocabulary,
                max_position_embeddings=64,
            )
        ),
        "clip": _clip,
    }[kind]()
    directory.mkdir(parents=True, exist_ok=True)
    with _quiet():
        model.save_pretrained(directory)
    tiny_tokenizer().save(str(directory / "tokenizer.json"))
    return str(directory)


def _clip() -> CLIPModel:
    return CLIPModel(
        CLIPConfig(text_config=dict(_CLIP_TEXT), vision_config=dict(_PATCHES), projection_dim=8)
    )


def _settle_batch_norm(model: torch.nn.Module) -> None:
    """Give running statistics values that a forgotten eval mode would change."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            torch.nn.init.normal_(module.running_mean, std=0.1)
