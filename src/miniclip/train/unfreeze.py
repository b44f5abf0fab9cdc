"""Fit a classifier whose encoder learns too: prepare, tune, and measure as any other fit.

One split stands for all folds, for tuning takes hours: the val part, or else one fold, is held out
and judged by a tower and a head that have not seen it. It trains nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miniclip.arrays import IntArray
from miniclip.bundle import Bundle
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Progress
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.probe.bench import Bench
from miniclip.probe.calibration import fit_temperature, nll, softmax
from miniclip.probe.cross_fit import training_rows, view_scores
from miniclip.probe.fit import Fitted, conclude
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Head, fit_head
from miniclip.probe.heads.linear import LinearHead
from miniclip.probe.learn import MlpTrainer, hold_out
from miniclip.probe.prepare import Prepared, check_classes, prepare
from miniclip.probe.splits import make_folds
from miniclip.train.finetune.feed import LabelledSources
from miniclip.train.finetune.run import Tuned, finetune
from miniclip.train.finetune.settings import FinetuneSettings

_VALIDATION_FOLDS = 8  # one of so many parts of the training images chooses epoch and mean


@dataclass(frozen=True)
class Unfrozen:
    """A fit on a tuned bundle; `tuned.bundle` is part of the model."""

    fitted: Fitted
    tuned: Tuned


def fit_unfrozen(
    bundle: Bundle,
    splits: LabelledSplits,
    cache: VectorCache,
    settings: FitSettings,
    finetuning: FinetuneSettings,
    *,
    work: Path,
    tower: str | None = None,
    trainer: MlpTrainer | None = None,
    progress: Callable[[str, int], Progress] | None = None,
) -> Unfrozen:
    """Tune the image tower of a bundle on labelled images and find out how good that is.

    work: directory of the training, from which a killed one goes on. tower: where the weights of
    the tower come from, if the bundle does not say. progress: called with what is counted and how
    many there are, gives the function to count with. The head is the one that was tuned along, or
    one as `settings` ask for on all that the tuned bundle says, if that is the better one.
    """
    bar = progress or (lambda _what, _total: lambda _done: None)
    frozen = OnnxEncoder.open(bundle)
    views = settings.view_list
    before = prepare(frozen, splits, cache, views=views[:1], progress=bar("embedding", len(splits)))
    train, held = _held_out(before, settings)
    labels, group = before.labels[train], before.group[train]
    inner = make_folds(
        np.zeros_like(labels), group, folds=_VALIDATION_FOLDS, seed=settings.seed
    ).fold_of
    images = LabelledSources(
        sources=_sources(splits, before.table.names),
        labels=before.labels,
        groups=before.group,
        classes=before.classes,
        train=train[inner > 0],
        validation=train[inner == 0],
    )
    check_classes(before, images.train)
    # Textures of the frozen tower say nothing of a tuned one: the head starts without them.
    table = before.table.first_part()
    rows, of_rows, groups = training_rows(table, before.labels, before.group, images.train)
    head = fit_head(
        "logistic", rows, of_rows, len(before.classes), seed=settings.seed, groups=groups
    )
    tuned = finetune(
        bundle,
        images,
        LinearHead.load({}, head.arrays()),
        finetuning,
        output=work,
        seed=settings.seed,
        tower=tower,
        progress=bar("training", finetuning.epochs * images.visits(finetuning.per_group)),
    )
    encoder = OnnxEncoder.open(tuned.bundle)
    parts = splits.part.astype("<U5")
    parts[np.isin(_names(splits), [before.table.names[row] for row in held])] = "val"
    prepared = prepare(
        encoder,
        replace(splits, part=parts),
        cache,
        views=views,
        progress=bar("embedding again", len(splits) * len(views)),
    )
    # Groups as before: other features may find other repeats, and none may cross the split now.
    prepared = replace(prepared, group=before.group, repeats=before.repeats)
    bench = Bench(encoder, prepared, settings, trainer)
    head = better_head(bench, tuned.head, images.train, images.validation)
    learnt = hold_out(prepared, head, train, held, settings.seed)
    fitted = conclude(bench, learnt)
    return Unfrozen(replace(fitted, result=replace(fitted.result, curves=tuned.curves)), tuned)


def better_head(bench: Bench, tuned: LinearHead, train: IntArray, validation: IntArray) -> Head:
    """Return the tuned head, or one that is fitted on what the tuned bundle says.

    train, validation: row numbers of what the tower learnt from and what chose its epoch. They
    choose again, by their cost as `Judgement` has it; a fitted head that wins gets both to learn.
    """
    prepared = bench.prepared
    fit = bench.fitter(bench.settings.choice)

    def fitted(rows: IntArray) -> Head:
        return fit(*training_rows(prepared.table, prepared.labels, prepared.group, rows))

    def cost(head: Head) -> float:
        scores = view_scores(head, prepared.table, validation)
        labels = prepared.labels[validation]
        return nll(softmax(scores, fit_temperature(scores, labels)), labels)

    own = tuned.widened(prepared.table.features.shape[-1])
    if cost(fitted(train)) < cost(own):
        return fitted(np.concatenate([train, validation]))
    return own


def _held_out(prepared: Prepared, settings: FitSettings) -> tuple[IntArray, IntArray]:
    """Return row numbers to train on and to judge by: train and val, or one fold as val."""
    train, val = prepared.where("train"), prepared.where("val")
    check_classes(prepared, train)
    if len(val):
        return train, val
    dealt = make_folds(
        prepared.labels[train],
        prepared.group[train],
        folds=settings.folds,
        seed=settings.seed,
        classes=prepared.classes,
    )
    return train[dealt.fold_of > 0], train[dealt.fold_of == 0]


def _names(splits: LabelledSplits) -> list[str]:
    return [source.name for source in splits.labelled.sources]


def _sources(splits: LabelledSplits, names: Sequence[str]) -> list[ImageSource]:
    by_name = dict(zip(_names(splits), splits.labelled.sources, strict=True))
    return [by_name[name] for name in names]
