"""The two-tower model: unit rows, what learns at which rate, and what keeps still."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from miniclip.errors import TrainingError
from miniclip.train.model import LearningRates, TwoTower
from tests.train.tiny_model import D, tiny_model

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[2, 4, 5, 3], [2, 6, 3, 0], [2, 3, 0, 0]])
MASK = (IDS > 0).long()
RATES = LearningRates(image_tower=1e-5, text_tower=1e-4, heads=1e-3, scale=1e-2)


def loss_of(model: TwoTower) -> torch.Tensor:
    images = model.project_image(model.image_features(model.trunk(PIXELS)))
    cosines = images @ model.encode_text(IDS, MASK).T
    return nn.functional.cross_entropy(model.scale * cosines + model.bias, torch.arange(3))


@pytest.mark.parametrize("image", ["resnet", "vit"])
@pytest.mark.parametrize("text", ["distilbert", "bert"])
def test_both_towers_end_in_unit_rows_of_one_space(image: str, text: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image=image, text=text).eval()
    with torch.no_grad():
        for rows in (model.encode_image(PIXELS), model.encode_text(IDS, MASK)):
            assert rows.shape == (3, D)
            assert rows.dtype == torch.float32
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert model.embedding_dim == D


@pytest.mark.parametrize("trainable", ["none", "last:1", "all"])
def test_a_step_moves_what_learns_and_nothing_else(trainable: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image_trainable=trainable, text_trainable=trainable).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameter_groups(RATES, weight_decay=0.1))
    for _ in range(2):  # in the first, the zero layers of the heads hide what is before them
        optimiser.zero_grad()
        loss_of(model).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    # A shift of all keys, and of all logits, changes no softmax: such biases have no gradient.
    assert moved <= learning
    assert all("bias" in name for name in learning - moved), learning - moved
    assert any(n.startswith("image_tower") for n in moved) == (trainable != "none")
    assert any(n.startswith("text_tower") for n in moved) == (trainable != "none")


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image_trainable="all").train()
    rates = LearningRates(image_tower=1e-3, text_tower=1e-3, heads=1e-2, scale=1e-3)
    optimiser = torch.optim.AdamW(model.parameter_groups(rates, weight_decay=0.0))
    first = loss_of(model.eval()).item()
    model.train()
    for _ in range(60):
        optimiser.zero_grad()
        loss_of(model).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        model.clamp_scale()
    assert loss_of(model.eval()).item() < 0.5 * first


def test_groups_give_each_part_its_rate_and_spare_vectors_from_decay(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image_trainable="all", bias=-10.0)
    groups = model.parameter_groups(RATES, weight_decay=0.1)
    by_name = {group["name"]: group for group in groups}
    assert by_name["image_tower"]["lr"] == 1e-5
    assert by_name["heads.plain"]["lr"] == 1e-3
    assert {id(p) for p in by_name["scale.plain"]["params"]} == {
        id(model.log_scale),
        id(model.bias),
    }
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim >= 2 else 0.0)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_rate_of_zero_leaves_a_part_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    rates = LearningRates(image_tower=0, text_tower=0, heads=1e-3, scale=0)
    assert {g["name"] for g in model.parameter_groups(rates, weight_decay=0.1)} == {
        "heads",
        "heads.plain",
    }
    with pytest.raises(TrainingError, match="nothing learns"):
        model.parameter_groups(LearningRates(0, 0, 0, 0), weight_decay=0.1)


def test_only_a_sigmoid_model_learns_a_bias(tmp_path: Path) -> None:
    assert not tiny_model(tmp_path).bias.requires_grad
    sigmoid = tiny_model(tmp_path, bias=-10.0)
    assert sigmoid.bias.requires_grad
    assert sigmoid.bias.item() == -10.0


def test_the_scale_stays_at_or_below_a_hundred(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    assert model.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    model.clamp_scale()
    assert model.log_scale.item() == pytest.approx(math.log(100))
    torch.autograd.backward(model.scale)
    assert model.log_scale.grad is not None
    assert model.log_scale.grad.item() == pytest.approx(100)  # it can come back from there
    with pytest.raises(TrainingError, match=r"scale is 101"):
        tiny_model(tmp_path, scale=101.0)


def test_standardised_features_reach_the_head(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, head="linear").eval()
    features = torch.randn(6, 16) * 3 + 5
    features[:, 0] = 2.0
    features[:, 1] = 5 + 0.01 * torch.randn(6)
    mean, std = features.mean(0), features.std(0)
    model.standardise_features(mean, std)
    least = 0.3 * sorted(std.tolist())[7]
    safe = torch.tensor([max(value, least) for value in std.tolist()])
    expected = model.image_head((features - mean) / safe)
    torch.testing.assert_close(model.image_embedding(features), expected)
    assert model.image_embedding(features).isfinite().all()
    with pytest.raises(TrainingError, match="give 16 finite numbers"):
        model.standardise_features(torch.zeros(3), torch.ones(3))


def test_what_is_cached_is_what_stays_fixed(tmp_path: Path) -> None:
    locked = tiny_model(tmp_path, image_trainable="none")
    assert locked.caches_trunk
    torch.testing.assert_close(locked.trunk(PIXELS), locked.image_features(locked.trunk(PIXELS)))
    assert not tiny_model(tmp_path, image_trainable="all").caches_trunk


def test_a_copy_shares_nothing_with_its_original(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image_trainable="all").eval()
    twin = copy.deepcopy(model)
    before = twin.encode_image(PIXELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(twin.encode_image(PIXELS), before)
    with torch.no_grad():
        for parameter in twin.image_tower.parameters():
            parameter.zero_()
    assert not torch.allclose(twin.encode_image(PIXELS), before)


def test_the_state_holds_each_tensor_once_and_brings_a_model_back(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "one", image_trainable="last:1")
    with torch.no_grad():
        model.image_head.get_submodule("linear").weight.mul_(-1)  # type: ignore[operator]
    model.standardise_features(torch.ones(16), torch.full((16,), 2.0))
    state = model.state_dict()
    places = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(places) == len(set(places))
    other = tiny_model(tmp_path / "two")
    other.load_state_dict(state)
    torch.testing.assert_close(other.eval().encode_image(PIXELS), model.eval().encode_image(PIXELS))
