"""Cutting towers: the two halves are the tower, and only what was unfrozen learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from miniclip.errors import TrainingError
from miniclip.train.finetune.halves import cut, layers_of
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.towers.efficientnet_lite import EfficientNetLite
from miniclip.train.towers.image import ImageTower, LiteTower, load_image_tower
from miniclip.train.towers.joined import JoinedTower
from tests.train.tiny_checkpoints import image_checkpoint

pytestmark = pytest.mark.train


def lite(seed: int = 0) -> LiteTower:
    torch.manual_seed(seed)
    return LiteTower(EfficientNetLite(0, classes=2), side=32)


def joined(_: Path) -> ImageTower:
    return JoinedTower([lite(0), lite(1)])


def transformer(place: Path) -> ImageTower:
    return load_image_tower(image_checkpoint("vit", place / "vit"))


CASES: dict[str, tuple[Callable[[Path], ImageTower], FinetuneSettings, tuple[str, ...]]] = {
    # name -> (tower, settings, prefixes of all names that learn)
    "last blocks": (lambda _: lite(), FinetuneSettings(unfreeze="last:2"), tuple(
        f"steps.{step}." for step in (15, 16, 17)
    )),
    "everything": (lambda _: lite(), FinetuneSettings(unfreeze="all"), ("steps.",)),
    "both of two": (joined, FinetuneSettings(unfreeze="last:0"), (
        "members.0.steps.17.", "members.1.steps.17."
    )),
    "the first of two": (joined, FinetuneSettings(unfreeze="last:1", learners=1), (
        "members.0.steps.16.", "members.0.steps.17."
    )),
    "pixels and features": (joined, FinetuneSettings(unfreeze="all", learners=1), ("members.0.",)),
    "blocks of a transformer": (transformer, FinetuneSettings(unfreeze="last:1"), (
        "backbone.layers.2.", "backbone.layernorm."
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_halves_are_the_tower_and_only_the_unfrozen_learns(name: str, tmp_path: Path) -> None:
    build, settings, learning = CASES[name]
    tower = build(tmp_path)
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = tower(pixels)
    frozen, live = cut(tower, settings, seed=0)
    rows = frozen(pixels)
    assert rows.ndim == 2
    assert not rows.requires_grad
    tower.train()
    features = live(rows)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    features.square().sum().backward()
    moved = {n for n, p in tower.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(parameter.startswith(learning) for parameter in moved)
    assert all(any(n.startswith(prefix) for n in moved) for prefix in learning)


def test_lora_adapts_the_last_blocks_of_a_transformer_and_nothing_else(tmp_path: Path) -> None:
    tower = transformer(tmp_path)
    cut(tower, FinetuneSettings(unfreeze="last:2", lora_rank=1), seed=0)
    learning = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert {name.split(".")[2] for name in learning} == {"1", "2"}
    assert all(name.endswith((".up", ".down")) for name in learning)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(TrainingError, match="LoRA adapts the linear layers of transformers"):
        cut(lite(), FinetuneSettings(lora_rank=2), seed=0)
    with pytest.raises(TrainingError, match="16 blocks"):
        cut(lite(), FinetuneSettings(unfreeze="last:17"), seed=0)


def test_layers_are_told_from_the_top_and_each_parameter_once(tmp_path: Path) -> None:
    for tower, count in ((lite(), 18), (joined(tmp_path), 18), (transformer(tmp_path), 5)):
        layers = layers_of(tower)
        assert len(layers) == count
        told = [id(parameter) for layer in layers for parameter in layer]
        assert sorted(told) == sorted(id(parameter) for parameter in tower.parameters())
    two = joined(tmp_path)
    top = {id(parameter) for parameter in layers_of(two)[0]}
    names = {name for name, parameter in two.named_parameters() if id(parameter) in top}
    assert {name.rsplit(".", 3)[0] for name in names} == {
        "members.0.steps.17",
        "members.1.steps.17",
    }
