"""What earlier maps of a tower say, beside the features and for the same price."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from miniclip.arrays import unit_rows
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.train.export.bundle import FULL, Label, export_model
from miniclip.train.finetune.export import export_tuned
from miniclip.train.finetune.source import Looks
from miniclip.train.heads import build_head
from miniclip.train.model import TwoTower
from miniclip.train.towers.centre import enlarged_centre
from miniclip.train.towers.efficientnet_lite import EfficientNetLite, InvertedResidual
from miniclip.train.towers.image import LiteTower, texture
from miniclip.train.towers.joined import JoinedTower
from miniclip.train.towers.text import load_text_tower
from tests.train.tiny_checkpoints import text_checkpoint

pytestmark = pytest.mark.train


def two_tower(image: LiteTower, directory: Path) -> TwoTower:
    """Join an image tower that looks twice with a text tower of a few kilobytes."""
    text = load_text_tower(text_checkpoint("distilbert", directory / "text"))
    heads = [build_head("linear", t.feature_dim, 8) for t in (image, text)]
    return TwoTower(image, text, *heads, image_centre=0.7).eval()


@pytest.fixture
def tower() -> LiteTower:
    torch.manual_seed(0)
    return LiteTower(EfficientNetLite(0), side=96)


def test_a_texture_is_the_root_of_the_mean_square() -> None:
    x = torch.randn(2, 3, 12, 11)
    naive = [[sum(v * v for v in c.flatten().tolist()) / 132 for c in image] for image in x]
    torch.testing.assert_close(texture(x), torch.tensor(naive).sqrt())


def test_a_tower_describes_what_its_stages_say(tower: LiteTower) -> None:
    pixels = torch.rand(2, 3, 96, 96)
    inside: dict[int, torch.Tensor] = {}
    for number in tower.opened:
        block = cast(InvertedResidual, tower.steps[number])
        block.depthwise.register_forward_hook(
            lambda _block, _inputs, output, number=number: inside.update({number: output})
        )
    with torch.no_grad():
        features, *earlier = tower.described(pixels)
        x = pixels
        maps = [x := step(x) for step in tower.steps]

    assert [part.shape[1] for part in earlier] == [40, 80, 112, 192, 240, 480, 672]
    torch.testing.assert_close(features, tower(pixels))
    for part, number in zip(earlier[:4], tower.textured, strict=True):
        torch.testing.assert_close(part, texture(maps[number]))
    for part, number in zip(earlier[4:], tower.opened, strict=True):
        torch.testing.assert_close(part, inside[number].mean((2, 3)))


def test_joined_towers_put_stages_of_equal_depth_side_by_side(tower: LiteTower) -> None:
    torch.manual_seed(1)
    other = LiteTower(EfficientNetLite(1), side=96)
    pixels = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        together = JoinedTower([tower, other]).described(pixels)
        one, two = tower.described(pixels), other.described(pixels)

    for joined, first, second in zip(together, one, two, strict=True):
        torch.testing.assert_close(joined, torch.cat([first, second], dim=1))


def test_a_second_look_counts_as_much(tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(tower, tmp_path)
    pixels = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        described = model.described_pixels(pixels)
        first = tower.described(pixels)
        second = tower.described(enlarged_centre(pixels, 0.7))

    torch.testing.assert_close(described[0], model.pixel_features(pixels))
    for part, one, other in zip(described, first, second, strict=True):
        torch.testing.assert_close(part, (one + other) / 2)
    assert model.feature_parts == tuple(part.shape[1] for part in described)


def test_a_bundle_has_them_behind_the_features(tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(tower, tmp_path)
    bundle = export_model(model, tmp_path / "bundle", label=Label("tiny", "MIT", {}), weights=FULL)

    encoder = OnnxEncoder.open(bundle)
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    with torch.no_grad():
        described = model.described_pixels(torch.from_numpy(pixels))
        expected = torch.cat(described, dim=1).numpy()
    assert encoder.feature_parts == model.feature_parts
    assert encoder.feature_dim == sum(model.feature_parts)
    np.testing.assert_allclose(encoder.encode_pixels(pixels).features, expected, atol=1e-3)


def test_a_tuned_tower_keeps_saying_them(tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(tower, tmp_path)
    bundle = export_model(model, tmp_path / "bundle", label=Label("tiny", "MIT", {}), weights=FULL)
    with torch.no_grad():
        for parameter in tower.parameters():  # as if it had learnt
            parameter.mul_(1.01)

    tuned = export_tuned(Looks(tower, 0.7), bundle, tmp_path / "tuned", name="new", provenance={})
    assert tuned.manifest.feature_parts == bundle.manifest.feature_parts
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    with torch.no_grad():
        features, *earlier = model.described_pixels(torch.from_numpy(pixels))
        projected = model.image_embedding(features).numpy()
    found = OnnxEncoder.open(tuned).encode_pixels(pixels)
    np.testing.assert_allclose(found.features, torch.cat([features, *earlier], 1), atol=1e-4)
    np.testing.assert_allclose(found.embeddings, unit_rows(projected), atol=1e-4)
