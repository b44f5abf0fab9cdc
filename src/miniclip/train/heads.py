"""Projection heads: from a tower's features (B, F) to the shared space (B, D), not yet unit length.

linear      x W + b, or x W, as in CLIP (arXiv 2103.00020).
mlp         Linear, GELU, dropout, Linear, as in SimCLR (arXiv 2002.05709) with GELU for ReLU.
residual    linear plus mlp: the linear map learns first, the mlp what it cannot say. The mlp's last
            layer starts at zero, so that training starts as the linear head.
projection  the head of the widely copied small CLIP tutorials: p = linear(x), then
            LayerNorm(p + dropout(Linear(GELU(p)))); the normalisation belongs to it.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from miniclip.errors import TrainingError

HeadKind = Literal["linear", "mlp", "residual", "projection"]


class ResidualHead(nn.Module):
    """linear(x) + mlp(x)."""

    def __init__(self, features: int, embedding: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, embedding)
        self.mlp = _mlp(features, embedding, hidden=hidden, dropout=dropout)
        for parameter in self.mlp[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) to (B, D)."""
        projected: Tensor = self.linear(features) + self.mlp(features)
        return projected


class ProjectionHead(nn.Module):
    """LayerNorm(p + dropout(Linear(GELU(p)))) with p = linear(x)."""

    def __init__(self, features: int, embedding: int, *, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, embedding)
        self.refine = nn.Sequential(nn.GELU(), nn.Linear(embedding, embedding), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(embedding)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) to (B, D)."""
        projected = self.linear(features)
        refined: Tensor = self.norm(projected + self.refine(projected))
        return refined


def build_head(
    kind: HeadKind,
    features: int,
    embedding: int,
    *,
    hidden: int = 1024,
    dropout: float = 0.1,
    norm: bool = False,
    bias: bool = True,
    input_dropout: float = 0.0,
) -> nn.Module:
    """Build a head with fresh weights.

    features: F; embedding: D; hidden: width of the mlp; norm: end with a LayerNorm; bias:
    whether a linear head adds b; dropout: inside; input_dropout: of the features that come in.
    TrainingError for an unknown kind or a value out of range.
    """
    if kind not in get_args(HeadKind):
        raise TrainingError(f"head is {kind!r}; choose one of {', '.join(get_args(HeadKind))}")
    for name, size in (("features", features), ("embedding", embedding), ("hidden", hidden)):
        if size < 1:
            raise TrainingError(f"head: {name} is {size}; give a whole number from 1 up")
    for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
        if not 0 <= share < 1:
            raise TrainingError(f"head: {name} is {share}; give a share from 0 to below 1")
    if kind != "linear" and not bias:
        raise TrainingError(f"head: bias is false, but kind is {kind!r}; only 'linear' can do so")
    head: nn.Module
    if kind == "projection":
        head = ProjectionHead(features, embedding, dropout=dropout)
    elif kind == "linear":
        head = nn.Linear(features, embedding, bias=bias)
    elif kind == "mlp":
        head = _mlp(features, embedding, hidden=hidden, dropout=dropout)
    else:
        head = ResidualHead(features, embedding, hidden=hidden, dropout=dropout)
    before = [nn.Dropout(input_dropout)] if input_dropout else []
    after = [nn.LayerNorm(embedding)] if norm and kind != "projection" else []
    return nn.Sequential(*before, head, *after) if before or after else head


def _mlp(features: int, embedding: int, *, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, embedding)
    )
