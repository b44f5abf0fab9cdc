"""What tests of fine-tuning share: coloured pictures with labels, a tiny bundle, a fitted head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.images import ImageSource
from miniclip.probe.heads.linear import LinearHead

CLASSES = ("red", "green", "blue")
PICTURES = 30


class Case(NamedTuple):
    """A bundle, pictures of three classes, and a head that was fitted without much care."""

    bundle: Bundle
    sources: list[ImageSource]
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    head: LinearHead


@pytest.fixture(scope="package")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Export a tiny vision transformer once, and paint the pictures."""
    from miniclip.train.export.bundle import FULL, Label, export_model  # noqa: PLC0415
    from tests.train.tiny_model import tiny_model  # noqa: PLC0415

    place = tmp_path_factory.mktemp("finetune")
    model = tiny_model(place, image="vit", image_centre=0.75)
    told = {"image_tower": model.image_tower.source, "image_centre": "0.75"}
    label = Label("tiny-vit", "Apache-2.0", told)
    bundle = export_model(model, place / "bundle", label=label, weights=FULL)
    rng = np.random.default_rng(0)
    labels = np.arange(PICTURES, dtype=np.int64) % len(CLASSES)
    sources = [_picture(place / f"{i:02d}.png", int(label), rng) for i, label in enumerate(labels)]
    width = bundle.manifest.feature_dim
    head = LinearHead(
        weights=rng.normal(0, 0.01, (width, len(CLASSES))).astype(np.float32),
        bias=np.zeros(len(CLASSES), dtype=np.float32),
        mean=np.full(width, 0.1, dtype=np.float32),
        scale=np.full(width, 0.5, dtype=np.float32),
    )
    return Case(bundle, sources, labels, head)


def _picture(path: Path, label: int, rng: np.random.Generator) -> ImageSource:
    pixels = rng.integers(0, 120, (40, 50, 3), dtype=np.uint8)
    pixels[..., label] += 100
    Image.fromarray(pixels).save(path)
    return ImageSource(path.name, path)
