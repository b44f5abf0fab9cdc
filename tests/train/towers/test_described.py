"""What earlier maps of a tower say, beside the features and for the same price."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from miniclip.arrays import unit_rows
from miniclip.errors import TrainingError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.train.export.bundle import FULL, Label, export_model
from miniclip.train.finetune.export import export_tuned
from miniclip.train.finetune.source import Looks, check_looks, load_looks
from miniclip.train.heads import build_head
from miniclip.train.model import TwoTower
from miniclip.train.towers.centre import enlarged_centre
from miniclip.train.towers.described import DescribedTower
from miniclip.train.towers.efficientnet_lite import EfficientNetLite, InvertedResidual
from miniclip.train.towers.image import ImageTower, LiteTower, load_image_tower, texture
from miniclip.train.towers.joined import JoinedTower
from miniclip.train.towers.text import load_text_tower
from tests.train.tiny_checkpoints import image_checkpoint, text_checkpoint

pytestmark = pytest.mark.train


def two_tower(image: ImageTower, directory: Path) -> TwoTower:
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


@pytest.mark.parametrize("whole", [False, True], ids=["last layer", "all layers"])
def test_a_tuned_tower_keeps_saying_them(whole: bool, tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(DescribedTower(tower) if whole else tower, tmp_path)
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


def test_a_head_may_read_all_layers(tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(DescribedTower(tower), tmp_path)
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    looks = [torch.from_numpy(pixels), enlarged_centre(torch.from_numpy(pixels), 0.7)]
    with torch.no_grad():
        expected = sum(torch.cat(tower.described(look), dim=1) for look in looks) / 2
        features = model.pixel_features(looks[0])
        projected = model.project_image(features)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(features, expected)

    label = Label("tiny", "MIT", {})
    bundle = export_model(model, tmp_path / "bundle", label=label, weights=FULL)
    assert bundle.manifest.feature_parts == tower.feature_parts
    found = OnnxEncoder.open(bundle).encode_pixels(pixels)
    np.testing.assert_allclose(found.features, features, atol=1e-3)
    np.testing.assert_allclose(found.embeddings, projected, atol=1e-4)


def test_the_run_of_a_bundle_gives_its_tower_to_tune(
    tower: LiteTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = two_tower(DescribedTower(tower), tmp_path)
    label = Label("tiny", "MIT", {})
    bundle = export_model(model, tmp_path / "bundle", label=label, weights=FULL)
    (tmp_path / "recipe.json").write_text("{}")
    monkeypatch.setattr(
        "miniclip.train.run.load_trained", lambda _run: SimpleNamespace(model=model)
    )
    looks = load_looks(bundle, str(tmp_path))
    assert looks.tower is tower
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    check_looks(looks, OnnxEncoder.open(bundle), pixels)


def test_what_reads_all_layers_is_frozen_or_learns_as_a_whole(tower: LiteTower) -> None:
    described, pixels = DescribedTower(tower), torch.rand(1, 3, 96, 96)
    for trainable in ("none", "all"):
        frozen, live = described.split(trainable)
        assert isinstance(frozen, torch.nn.Identity) == (trainable == "all")
        assert {p.requires_grad for p in described.parameters()} == {trainable == "all"}
        torch.testing.assert_close(live(frozen(pixels)), described(pixels))
    with pytest.raises(TrainingError, match=r"set image.trainable to 'none' or 'all'"):
        described.split("last:1")
    with pytest.raises(TrainingError, match=r"image.cut to 'features'"):
        described.split("none", cut="map")
    with pytest.raises(TrainingError, match="'half'"):
        described.split("half")
    torch.testing.assert_close(described.feature_map(pixels), tower.feature_map(pixels))


def test_a_tower_of_one_layer_has_no_others_to_read(tmp_path: Path) -> None:
    alone = load_image_tower(image_checkpoint("resnet", tmp_path / "image"))
    with pytest.raises(TrainingError, match=r"set image.layers to 'last'"):
        DescribedTower(alone)


def test_a_layer_that_hardly_moves_is_measured_by_itself(tower: LiteTower, tmp_path: Path) -> None:
    model = two_tower(DescribedTower(tower), tmp_path)
    last, *_ = tower.feature_parts
    std = torch.ones(sum(tower.feature_parts))
    std[last:] = 0.001
    std[last] = 0.0
    model.standardise_features(torch.zeros_like(std), std)
    expected = std.clone()
    expected[last] = 0.0003
    torch.testing.assert_close(model.feature_std, expected)

    model.standardise_features(torch.zeros_like(std), torch.zeros_like(std))
    assert model.feature_std.eq(1).all()
