"""Gradient caching gives the gradients of the plain batch, dropout included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.train.losses import positive_pairs
from miniclip.train.losses.gradient_cache import cached_backward
from tests.train.losses.pair_loss import NAMES, PairLoss

IMAGE_OF_TEXT = torch.tensor([0, 0, 1, 2, 2, 3, 4, 5, 5, 5])


class Tower(nn.Module):
    def __init__(self, inputs: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 8)
        )

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(self.body(rows), dim=1)


class Setting:
    """Two towers, a loss, a batch of six images and ten texts, cut unevenly."""

    def __init__(self, loss: str, dropout: float, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.image_tower, self.text_tower = Tower(12, dropout), Tower(9, dropout)
        self.loss = PairLoss(loss)
        self.model = nn.ModuleList([self.image_tower, self.text_tower, self.loss]).to(dtype)
        self.dropout = dropout
        self.images = torch.split(torch.randn(6, 12, dtype=dtype), [2, 3, 1])
        self.texts = torch.split(torch.randn(10, 9, dtype=dtype), [4, 4, 2])
        self.positives = positive_pairs(torch.arange(6), IMAGE_OF_TEXT)

    def loss_of(self, image: Tensor, text: Tensor) -> Tensor:
        text = F.dropout(text, self.dropout)  # a loss that draws random numbers of its own
        loss: Tensor = self.loss(image, text, self.positives)
        return loss

    def plain(self) -> Tensor:
        """One graph over all micro-batches, which draws the same dropout masks."""
        image = torch.cat([self.image_tower(part) for part in self.images])
        text = torch.cat([self.text_tower(part) for part in self.texts])
        loss = self.loss_of(image, text)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def cached(self) -> Tensor:
        towers = (self.image_tower, self.text_tower)
        return cached_backward(towers, (self.images, self.texts), self.loss_of)

    def run(self, backward: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        self.model.zero_grad()
        torch.manual_seed(42)
        loss = backward()
        gradients = {
            name: weight.grad.clone()
            for name, weight in self.model.named_parameters()
            if weight.grad is not None
        }
        return loss, gradients, torch.get_rng_state()


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)], ids=str
)
def test_gradients_loss_and_random_state_equal_those_of_the_plain_batch(
    loss: str, dtype: torch.dtype, tolerance: float
) -> None:
    setting = Setting(loss, dropout=0.5, dtype=dtype)
    plain_loss, plain, plain_state = setting.run(setting.plain)
    cached_loss, cached, cached_state = setting.run(setting.cached)
    torch.testing.assert_close(cached_loss, plain_loss, rtol=0, atol=tolerance)
    assert not cached_loss.requires_grad
    assert cached.keys() == plain.keys() == dict(setting.model.named_parameters()).keys()
    torch.testing.assert_close(cached, plain, rtol=0, atol=tolerance)
    assert torch.equal(cached_state, plain_state)


def test_without_dropout_the_cut_does_not_matter() -> None:
    setting = Setting("infonce", dropout=0.0, dtype=torch.float64)
    _, cut, _ = setting.run(setting.cached)
    setting.images, setting.texts = (torch.cat(setting.images),), (torch.cat(setting.texts),)
    _, whole, _ = setting.run(setting.plain)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-13)


def test_within_autocast_every_weight_still_gets_its_gradient() -> None:
    """Older torch reused casts that autocast had cached without a graph: weights were cut off."""
    setting = Setting("infonce", dropout=0.5, dtype=torch.float32)

    def mixed(backward: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return backward()

        return run

    _, plain, _ = setting.run(mixed(setting.plain))
    _, cached, _ = setting.run(mixed(setting.cached))
    assert cached.keys() == dict(setting.model.named_parameters()).keys()
    for name, gradient in plain.items():
        # bfloat16 keeps 8 bits (0.4 %), and rounds after each micro-batch
        assert (cached[name] - gradient).norm() < 0.01 * gradient.norm(), name


def test_a_frozen_tower_is_left_alone_and_the_other_learns() -> None:
    setting = Setting("infonce", dropout=0.5, dtype=torch.float64)
    setting.image_tower.requires_grad_(False)
    _, plain, _ = setting.run(setting.plain)
    _, cached, _ = setting.run(setting.cached)
    assert not any(name.startswith("0.") for name in cached)
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-13)


def test_at_most_one_micro_batch_has_a_graph() -> None:
    """The point of it all: the plain batch would hold six graphs at a time."""
    setting = Setting("infonce", dropout=0.0, dtype=torch.float64)
    alive: list[int] = []
    most = 0

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, rows: Tensor) -> Tensor:
            nonlocal most
            if rows.requires_grad:
                alive.append(1)
                most = max(most, len(alive))
            return rows.view_as(rows)

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            alive.pop()
            return gradient

    def counted(tower: nn.Module) -> Callable[[Tensor], Tensor]:
        def encode(part: Tensor) -> Tensor:
            rows: Tensor = tower(part)
            if torch.is_grad_enabled():
                rows = Counted.apply(rows)  # type: ignore[no-untyped-call]
            return rows

        return encode

    towers = (counted(setting.image_tower), counted(setting.text_tower))
    cached_backward(towers, (setting.images, setting.texts), setting.loss_of)
    assert most == 1
    assert not alive


def test_lists_that_do_not_fit_are_refused() -> None:
    setting = Setting("infonce", dropout=0.0, dtype=torch.float32)
    towers = (setting.image_tower, setting.text_tower)
    with pytest.raises(TrainingError, match="2 encoders"):
        cached_backward(towers, (setting.images,), setting.loss_of)
    with pytest.raises(TrainingError, match=r"\[3, 0\]"):
        cached_backward(towers, (setting.images, ()), setting.loss_of)
