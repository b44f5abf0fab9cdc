"""Fit a head on prepared images, and keep what it says about images that it has not seen.

Two plans: without a val part, k grouped folds are held out in turn and the head is then fitted on
everything; with one, the head learns from train alone and val is held out. What the held-out scores
are worth is said in judge.py; nothing here looks at the test part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from miniclip.arrays import FloatArray, IntArray
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, MissingExtraError
from miniclip.probe.cross_fit import FitHead, cross_fit, training_rows, view_scores
from miniclip.probe.heads.head import (
    FITTED_KINDS,
    Head,
    HeadSettings,
    Rows,
    Scores,
    fit_head,
)
from miniclip.probe.prepare import Prepared, check_classes
from miniclip.probe.splits import make_folds
from miniclip.prompts import DEFAULT_TEMPLATES
from miniclip.settings import overridden
from miniclip.zeroshot import class_vectors

HEADS = (*FITTED_KINDS, "mlp")
DEFAULT_HEAD = "kernel"  # the best of those that need no torch, and the fastest
_VALIDATION_FOLDS = 8  # one of so many parts chooses the epoch where training stops early
_CALIBRATION_FOLDS = 5  # in which a val part is judged, each by the rules of the others
Labelled = tuple[FloatArray, IntArray]  # rows (N, F) float32 and labels (N,) int64


class EpochCurves(Protocol):
    """Loss and accuracy after each epoch, E numbers each."""

    @property
    def train_loss(self) -> tuple[float, ...]:
        """In nats, with dropout at work."""

    @property
    def validation_loss(self) -> tuple[float, ...]:
        """In nats."""

    @property
    def train_accuracy(self) -> tuple[float, ...]:
        """In 0..1."""

    @property
    def validation_accuracy(self) -> tuple[float, ...]:
        """In 0..1."""


class TrainedMlp(Protocol):
    """What a trainer gives back."""

    @property
    def head(self) -> Head:
        """The fitted head, free of the library that trained it."""

    @property
    def curves(self) -> EpochCurves:
        """Loss and accuracy by epoch."""


class MlpTrainer(Protocol):
    """Trains an MLP head with gradients; handed in, for this floor knows no torch."""

    def __call__(
        self,
        train: Labelled,
        validation: Labelled,
        *,
        classes: int,
        preset: str | None,
        overrides: Sequence[str],
        seed: int,
    ) -> TrainedMlp:
        """Train on rows; the validation rows draw the curves and may choose the epoch."""


@dataclass(frozen=True)
class HeadChoice:
    """Which head, and how it is fitted.

    overrides: "key=value" for the settings of the head. preset: of the MLP.
    """

    kind: str = DEFAULT_HEAD
    overrides: tuple[str, ...] = ()
    preset: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for what no head can use."""
        if self.kind not in HEADS:
            raise ConfigError(f"head is {self.kind!r}; choose one of {', '.join(HEADS)}")
        if self.preset and self.kind != "mlp":
            raise ConfigError(
                f"the preset {self.preset} is one of the mlp head and not of {self.kind}; "
                "give --head mlp with it"
            )
        if self.kind != "mlp":
            overridden(HeadSettings(), self.overrides)


@dataclass(frozen=True)
class Learnt:
    """A fitted head and its held-out word on H images.

    rows: (H,) int64, their numbers in the prepared images. scores: (H, C) float64 logits of heads
    that have not seen them. fold_of: (H,) int64; the rules for a fold may look at the others.
    heads: of each fold, the one that its scores come from.
    learnt_from: (N',) row numbers that `head` was fitted on. straddling: rows of val that repeat a
    picture of train, with their scores; they judge nothing but the naive figure.
    """

    head: Head
    rows: IntArray
    scores: Scores
    fold_of: IntArray
    heads: tuple[Head, ...] = field(repr=False)
    learnt_from: IntArray
    warnings: tuple[str, ...] = ()
    straddling: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    straddling_scores: Scores = field(default_factory=lambda: np.empty((0, 0), dtype=np.float64))

    @property
    def cross_fitted(self) -> bool:
        """Whether the held-out images were learnt from in the end."""
        return len(np.intersect1d(self.rows, self.learnt_from)) > 0


def learn(
    prepared: Prepared,
    fit: FitHead,
    *,
    folds: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Learnt:
    """Fit on everything but the test part, as the header says; DatasetError when that cannot be."""
    train, val = prepared.where("train"), prepared.where("val")
    check_classes(prepared, train)
    if len(val):
        return _learn_with_val(prepared, fit, train, val, seed)
    labels, group = prepared.labels[train], prepared.group[train]
    dealt = make_folds(labels, group, folds=folds, seed=seed, classes=prepared.classes)
    table = prepared.table.rows(train)
    found = cross_fit(fit, table, labels, dealt, groups=group, progress=progress)
    return Learnt(
        head=fit(*training_rows(table, labels, group, np.arange(len(train)))),
        rows=train,
        scores=found.scores,
        fold_of=dealt.fold_of,
        heads=found.heads,
        learnt_from=train,
        warnings=(dealt.warning,) if dealt.warning else (),
    )


def _learn_with_val(
    prepared: Prepared, fit: FitHead, train: IntArray, val: IntArray, seed: int
) -> Learnt:
    head = fit(*training_rows(prepared.table, prepared.labels, prepared.group, train))
    return hold_out(prepared, head, train, val, seed)


def hold_out(prepared: Prepared, head: Head, train: IntArray, val: IntArray, seed: int) -> Learnt:
    """Score the val images with a head fitted on `train`; those that repeat train stand aside."""
    repeated = np.isin(prepared.group[val], prepared.group[train])
    clean = val if repeated.all() else val[~repeated]
    warnings = []
    if repeated.any():
        aside = "there are no others" if repeated.all() else "they are left out of the figures"
        warnings.append(f"{repeated.sum()} of {len(val)} val images repeat train images; {aside}")
    group = prepared.group[clean]
    # Classes may be missing in some of these folds: rules need images of any class.
    dealt = make_folds(np.zeros_like(group), group, folds=_CALIBRATION_FOLDS, seed=seed)
    return Learnt(
        head=head,
        rows=clean,
        scores=view_scores(head, prepared.table, clean),
        fold_of=dealt.fold_of,
        heads=(head,) * (int(dealt.fold_of.max()) + 1),
        learnt_from=train,
        warnings=tuple(warnings),
        straddling=val[repeated],
        straddling_scores=view_scores(head, prepared.table, val[repeated]),
    )


def head_fitter(
    choice: HeadChoice,
    classes: Sequence[str],
    encoder: Encoder,
    trainer: MlpTrainer | None = None,
) -> FitHead:
    """Return how a head of this choice is fitted on rows, labels and groups.

    encoder: makes the prompts of heads that need them. MissingExtraError for an MLP without a
    trainer.
    """
    choice.check()
    if choice.kind == "mlp":
        if trainer is None:
            raise MissingExtraError("The mlp head", "train")
        return _mlp_fitter(choice, len(classes), trainer)
    prompts = None
    if choice.kind in ("zeroshot", "blend"):
        prompts = class_vectors(
            encoder, [name.replace("_", " ") for name in classes], DEFAULT_TEMPLATES
        )
    settings = overridden(HeadSettings(), choice.overrides)

    def fit(rows: Rows, labels: IntArray, groups: IntArray) -> Head:
        return fit_head(
            choice.kind,
            rows,
            labels,
            len(classes),
            settings=settings,
            prompts=prompts,
            logit_scale=encoder.logit_scale,
            seed=choice.seed,
            groups=groups,
            parts=encoder.feature_parts,
        )

    return fit


def _mlp_fitter(choice: HeadChoice, classes: int, trainer: MlpTrainer) -> FitHead:
    """Fit an MLP whose epoch, where training may stop early, is chosen on rows of its own."""

    def fit(rows: Rows, labels: IntArray, groups: IntArray) -> Head:
        # By groups alone: a class too small for so many folds must not stop the training.
        dealt = make_folds(np.zeros_like(labels), groups, folds=_VALIDATION_FOLDS, seed=choice.seed)
        judged = dealt.fold_of == 0
        fitted = ~judged if choice.preset is None else np.ones_like(judged)
        return trainer(
            (rows.features[fitted], labels[fitted]),
            (rows.features[judged], labels[judged]),
            classes=classes,
            preset=choice.preset,
            overrides=choice.overrides,
            seed=choice.seed,
        ).head

    return fit
