"""Quick convolutions give what the layers give that they stand for, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from miniclip.train.finetune.still_convs import StillConvNorm, with_still_convs
from miniclip.train.towers.efficientnet_lite import ConvNorm, InvertedResidual

pytestmark = pytest.mark.train


def settled(module: nn.Module) -> nn.Module:
    """Give norms statistics and weights that a mistake would show in."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low in ((norm.running_mean, -0.5), (norm.running_var, 0.5)):
                assert tensor is not None
                tensor.uniform_(low, low + 1, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(norm.bias, -0.5, 0.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [9, 12])
def test_a_block_and_its_quick_form_agree(stride: int, kernel: int, side: int) -> None:
    torch.manual_seed(0)
    block = settled(InvertedResidual(8, 8, kernel, stride, 3)).double()
    quick = with_still_convs(block)
    assert sum(isinstance(module, StillConvNorm) for module in quick.modules()) == 3
    outputs, gradients = [], []
    for module in (block, quick):
        x = torch.linspace(-2, 2, 3 * 8 * side * side, dtype=torch.float64).reshape(
            3, 8, side, side
        )
        x.requires_grad_()
        block.zero_grad()
        y = module(x.cos() * 2)
        (y * torch.arange(y.numel()).reshape(y.shape).sin()).sum().backward()
        outputs.append(y.detach())
        gradients.append([x.grad, *(p.grad for p in block.parameters())])
    torch.testing.assert_close(*outputs)
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain)


def test_parameters_are_shared_so_that_a_step_of_one_moves_the_other() -> None:
    block = settled(nn.Sequential(ConvNorm(3, 4, 3), ConvNorm(4, 4, 3, groups=4)))
    quick = with_still_convs(block)
    assert {id(p) for p in quick.parameters()} == {id(p) for p in block.parameters()}
    optimiser = torch.optim.SGD(block.parameters(), lr=0.1)
    x = torch.rand(2, 3, 8, 8)
    before = block(x).detach()
    quick(x).square().sum().backward()
    optimiser.step()
    assert not torch.allclose(block(x), before)
    torch.testing.assert_close(block(x), quick(x))


def test_under_autocast_it_is_as_near_as_bfloat16_can_be() -> None:
    torch.manual_seed(0)
    block = settled(InvertedResidual(8, 8, 5, 1, 3))
    quick = with_still_convs(block)
    x = torch.rand(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        near = quick(x)
    near.float().sum().backward()
    torch.testing.assert_close(near.float(), block(x), rtol=0.05, atol=0.05)
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_what_is_frozen_gets_no_gradient() -> None:
    block = settled(InvertedResidual(8, 8, 3, 1, 3))
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.weight.requires_grad_(False)
    with_still_convs(block)(torch.rand(2, 8, 9, 9)).sum().backward()
    for name, parameter in block.named_parameters():
        assert (parameter.grad is None) == (name == "depthwise.conv.weight")
