"""Projection heads against their formulas, written out."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from miniclip.errors import TrainingError
from miniclip.train.heads import HeadKind, build_head

ROWS = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


def head(kind: HeadKind, *, norm: bool = False, dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return build_head(kind, 12, 6, hidden=20, dropout=dropout, norm=norm)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


def test_linear() -> None:
    w = weights(head("linear"))
    torch.testing.assert_close(head("linear").eval()(ROWS), ROWS @ w["weight"].T + w["bias"])


def test_linear_without_a_bias_maps_nothing_to_nothing() -> None:
    built = build_head("linear", 12, 6, bias=False)
    torch.testing.assert_close(built(ROWS), ROWS @ weights(built)["weight"].T)
    assert not built(torch.zeros(1, 12)).any()


def test_mlp() -> None:
    w = weights(head("mlp"))
    hidden = F.gelu(ROWS @ w["0.weight"].T + w["0.bias"])
    torch.testing.assert_close(head("mlp").eval()(ROWS), hidden @ w["3.weight"].T + w["3.bias"])


def test_residual_starts_as_the_linear_head_and_grows_out_of_it() -> None:
    residual = head("residual").eval()
    w = weights(residual)
    linear = ROWS @ w["linear.weight"].T + w["linear.bias"]
    torch.testing.assert_close(residual(ROWS), linear)
    residual(ROWS).square().sum().backward()
    torch.optim.SGD(residual.parameters(), lr=0.01).step()
    w = weights(residual)
    hidden = F.gelu(ROWS @ w["mlp.0.weight"].T + w["mlp.0.bias"])
    expected = ROWS @ w["linear.weight"].T + w["linear.bias"]
    assert hidden.abs().sum() > 0
    expected = expected + hidden @ w["mlp.3.weight"].T + w["mlp.3.bias"]
    torch.testing.assert_close(residual(ROWS), expected)


def test_projection() -> None:
    w = weights(head("projection"))
    p = ROWS @ w["linear.weight"].T + w["linear.bias"]
    refined = p + F.gelu(p) @ w["refine.1.weight"].T + w["refine.1.bias"]
    centred = refined - refined.mean(1, keepdim=True)
    expected = centred / (refined.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head("projection").eval()(ROWS), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_maps_to_the_embedding_and_learns(kind: HeadKind) -> None:
    built = head(kind, dropout=0.0)
    out = built(ROWS)
    assert out.shape == (5, 6)
    out.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in built.parameters())


@pytest.mark.parametrize("kind", ["linear", "mlp", "residual"])
def test_a_norm_at_the_end_centres_each_row(kind: HeadKind) -> None:
    out = head(kind, norm=True).eval()(ROWS)
    torch.testing.assert_close(out.mean(1), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_come_in_are_dropped_in_training_alone(kind: HeadKind) -> None:
    plain = head(kind, dropout=0.0)
    torch.manual_seed(0)
    dropping = build_head(kind, 12, 6, hidden=20, dropout=0.0, input_dropout=0.5)
    torch.testing.assert_close(dropping.eval()(ROWS), plain(ROWS))
    torch.manual_seed(1)
    dropped = F.dropout(ROWS, 0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(dropping.train()(ROWS), plain(dropped))


@pytest.mark.parametrize("kind", ["mlp", "projection"])
def test_dropout_acts_in_training_alone(kind: HeadKind) -> None:
    built = head(kind)
    assert not torch.equal(built.train()(ROWS), built(ROWS))
    assert torch.equal(built.eval()(ROWS), built(ROWS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "conv"}, "head is 'conv'"),
        ({"features": 0}, "features is 0"),
        ({"embedding": -1}, "embedding is -1"),
        ({"hidden": 0}, "hidden is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"input_dropout": -0.1}, "input_dropout is -0.1"),
        ({"bias": False}, "bias is false, but kind is 'mlp'"),
    ],
)
def test_unusable_values_are_refused_by_name(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"kind": "mlp", "features": 4, "embedding": 2, **change}
    with pytest.raises(TrainingError, match=message):
        build_head(**values)  # type: ignore[arg-type]
