"""A two-tower model of a few kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from miniclip.train.heads import HeadKind, build_head
from miniclip.train.model import TwoTower
from miniclip.train.towers.image import load_image_tower
from miniclip.train.towers.text import load_text_tower
from tests.train.tiny_checkpoints import image_checkpoint, text_checkpoint

D = 8


def tiny_model(
    directory: Path,
    *,
    image: str = "resnet",
    text: str = "distilbert",
    head: HeadKind = "residual",
    **options: Any,
) -> TwoTower:
    """Build a model from tiny checkpoints; options go to `TwoTower`."""
    image_tower = load_image_tower(image_checkpoint(image, directory / "image"))
    text_tower = load_text_tower(text_checkpoint(text, directory / "text"))
    torch.manual_seed(3)
    return TwoTower(
        image_tower,
        text_tower,
        build_head(head, image_tower.feature_dim, D, hidden=12),
        build_head(head, text_tower.feature_dim, D, hidden=12),
        **options,
    )
