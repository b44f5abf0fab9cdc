"""An MLP head on frozen features: linear, [batch norm,] ReLU, dropout, linear, trained by AdamW.

Two presets repeat a published experiment: without batch norm and with a high rate the validation
loss runs away while the training loss goes to zero; the robust preset holds it. The fitted head
leaves as plain arrays; running it needs no torch and is done by `probe.heads.mlp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.arrays import FloatArray, IntArray
from miniclip.cpus import usable_cpus
from miniclip.errors import ConfigError, DatasetError, TrainingError
from miniclip.probe.heads.linear import spread_of
from miniclip.probe.heads.mlp import MlpHead
from miniclip.probe.learn import Labelled
from miniclip.probe.results import Curves
from miniclip.settings import overridden

Progress = Callable[[int], None]  # called with the number of epochs done


def _require(holds: bool, key: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"mlp.{key} is {value!r}; give {wanted}")


@dataclass(frozen=True)
class MlpSettings:
    """Every choice of the training.

    hidden: H, to which the time is proportional; 256 learn 1,600 photos by heart.
    batch_size: rows a step; what is left over is spread, so that no batch is tiny.
    patience: epochs without a lower validation loss before the training ends and the best weights
    come back; 0 trains all `epochs` and keeps the last weights.
    """

    hidden: int = 256
    dropout: float = 0.4
    batch_norm: bool = True
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    batch_size: int = 64
    epochs: int = 500
    patience: int = 20

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2 rows")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a share from 0 to below 1")
        rate, decay = self.learning_rate, self.weight_decay
        _require(0 < rate < math.inf, "learning_rate", rate, "a number above 0, such as 1e-3")
        _require(0 <= decay < math.inf, "weight_decay", decay, "a number from 0 up, such as 1e-4")
        _require(self.patience >= 0, "patience", self.patience, "a number of epochs, or 0")


PRESETS: Mapping[str, MlpSettings] = MappingProxyType(
    {
        "baseline": MlpSettings(
            batch_norm=False, dropout=0.3, learning_rate=1e-3, weight_decay=1e-4, patience=0
        ),
        "robust": MlpSettings(
            batch_norm=True, dropout=0.4, learning_rate=1e-4, weight_decay=5e-4, patience=0
        ),
    }
)


@dataclass(frozen=True)
class MlpFit:
    """A trained head and how it came about.

    curves: train_loss and train_accuracy are means over an epoch's own steps, with dropout at work;
    losses are cross-entropies in nats. epoch: from 1, the one whose weights the head has.
    """

    head: MlpHead
    curves: Curves
    epoch: int


class LabelledRows(NamedTuple):
    """features (N, F) float32; labels (N,) int64 in 0..C-1."""

    features: FloatArray
    labels: IntArray


def mlp_settings(preset: str | None = None, overrides: Sequence[str] = ()) -> MlpSettings:
    """Return the settings of a preset, or the defaults, with overrides such as "hidden=512".

    ConfigError for an unknown preset or setting, or an unusable value.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    start = MlpSettings() if preset is None else PRESETS[preset]
    return overridden(start, overrides, "mlp.")


def fit_mlp(
    train: LabelledRows,
    validation: LabelledRows,
    settings: MlpSettings,
    *,
    classes: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> MlpFit:
    """Train a head; the validation rows draw the curves and, with patience, choose the epoch.

    classes: C. The same seed gives the same head on one machine and as many threads.
    DatasetError when rows and labels do not fit, TrainingError when the loss is no number.
    """
    _check_rows(train, classes, "training")
    _check_rows(validation, classes, "validation")
    mean, scale = spread_of(train.features)
    known, unseen = (
        (torch.from_numpy((rows.features - mean) / scale), torch.from_numpy(rows.labels))
        for rows in (train, validation)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, usable_cpus()))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network(train.features.shape[1], classes, settings)
            epoch, curves = _train(network, known, unseen, settings, progress or (lambda _: None))
    finally:
        torch.set_num_threads(threads)
    head = MlpHead.load(asdict(settings), {"mean": mean, "scale": scale, **network.plain()})
    return MlpFit(head, curves, epoch)


def train_mlp(
    train: Labelled,
    validation: Labelled,
    *,
    classes: int,
    preset: str | None,
    overrides: Sequence[str],
    seed: int,
) -> MlpFit:
    """Train with settings in words: the `MlpTrainer` for those who know no torch."""
    settings = mlp_settings(preset, overrides)
    rows, held_out = LabelledRows(*train), LabelledRows(*validation)
    return fit_mlp(rows, held_out, settings, classes=classes, seed=seed)


def _train(
    network: _Network,
    known: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    settings: MlpSettings,
    progress: Progress,
) -> tuple[int, Curves]:
    """Train in place; return the number of the epoch that was kept, and the curves."""
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    rows: list[tuple[float, float, float, float]] = []
    best, kept = math.inf, 0
    weights: dict[str, Tensor] = {}
    for epoch in range(1, settings.epochs + 1):
        train_loss, train_accuracy = _one_epoch(network, optimiser, known, settings.batch_size)
        loss, accuracy = _measured(network, unseen)
        if not (math.isfinite(train_loss) and math.isfinite(loss)):
            raise TrainingError(
                f"the loss is {train_loss} in epoch {epoch}; lower learning_rate "
                f"(now {settings.learning_rate:g}), or look for features that are not finite"
            )
        rows.append((train_loss, loss, train_accuracy, accuracy))
        progress(epoch)
        if not settings.patience:
            kept = epoch
        elif loss < best:
            best, kept = loss, epoch
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        elif epoch - kept >= settings.patience:
            break
    if weights:
        network.load_state_dict(weights)
    return kept, Curves(*(tuple(column) for column in zip(*rows, strict=True)))


def _one_epoch(
    network: _Network,
    optimiser: torch.optim.Optimizer,
    known: tuple[Tensor, Tensor],
    batch_size: int,
) -> tuple[float, float]:
    """Visit every row once, in a new order; return the mean loss and accuracy on the way."""
    features, labels = known
    network.train()
    order = torch.randperm(len(labels))
    loss_sum, hits = torch.zeros(()), torch.zeros(())
    for batch in torch.tensor_split(order, math.ceil(len(order) / batch_size)):
        logits = network(features[batch])
        loss = F.cross_entropy(logits, labels[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss_sum += loss.detach() * len(batch)
        hits += (logits.argmax(1) == labels[batch]).sum()
    return float(loss_sum) / len(order), float(hits) / len(order)


@torch.no_grad()
def _measured(network: _Network, rows: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return loss and accuracy without dropout."""
    features, labels = rows
    logits = network.eval()(features)
    hits = int((logits.argmax(1) == labels).sum())
    return float(F.cross_entropy(logits, labels)), hits / len(labels)


class _Network(nn.Module):
    """linear, [batch norm,] ReLU, dropout, linear."""

    def __init__(self, features: int, classes: int, settings: MlpSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.first = nn.Linear(features, hidden)
        self.norm = nn.BatchNorm1d(hidden) if settings.batch_norm else nn.Identity()
        self.drop = nn.Dropout(settings.dropout)
        self.last = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) standardised to logits (B, C)."""
        logits: Tensor = self.last(self.drop(F.relu(self.norm(self.first(features)))))
        return logits

    @torch.no_grad()
    def plain(self) -> dict[str, NDArray[np.float32]]:
        """Return w1 (F, H), b1 (H,), w2 (H, C), b2 (C,).

        Batch norm is folded into the first layer: it is affine once its statistics stand still.
        """
        self.eval().double()
        offset = self.norm(torch.zeros_like(self.first.bias)[None])[0]
        factor = self.norm(torch.ones_like(self.first.bias)[None])[0] - offset
        layers = {
            "w1": self.first.weight.T * factor,
            "b1": self.first.bias * factor + offset,
            "w2": self.last.weight.T,
            "b2": self.last.bias,
        }
        return {name: tensor.numpy().astype(np.float32) for name, tensor in layers.items()}


def _check_rows(rows: LabelledRows, classes: int, what: str) -> None:
    features, labels = rows
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(labels) < 2:
        raise DatasetError(
            f"the {what} rows have the shape {features.shape} and their labels {labels.shape}; "
            "give (N, F) and (N,) with N of at least 2"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DatasetError(
            f"the {what} labels go from {labels.min()} to {labels.max()}; "
            f"with {classes} classes they must lie in 0..{classes - 1}"
        )
