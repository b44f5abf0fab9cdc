"""How far a classifier carries from one data set to another: learn on each, test on each.

A cell off the diagonal is a head fitted on all of the one data set and tested on all of the other,
on the classes that both have. A cell on the diagonal is cross-validated, over grouped folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.datasets.spelling import match_names
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.calibration import softmax
from miniclip.probe.cross_fit import training_rows, view_scores
from miniclip.probe.duplicates import Pictures, find_known
from miniclip.probe.heads.head import Scores
from miniclip.probe.intervals import Score
from miniclip.probe.learn import HeadChoice, head_fitter, learn
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.results import to_json
from miniclip.probe.scores import score_classifier
from miniclip.views import named_views


@dataclass(frozen=True)
class Cell:
    """Learnt on `train`, tested on `test`.

    classes: those that both have; images: how many were tested; repeats: test images left out, for
    they repeat a training image as `find_known` finds it, or belong with one that does. accuracy,
    macro_f1: None where fewer than two classes are shared.
    """

    train: str
    test: str
    classes: tuple[str, ...]
    images: int
    repeats: int
    accuracy: Score | None
    macro_f1: Score | None


@dataclass(frozen=True)
class TransferResult:
    """One cell for each pair of a training and a test set."""

    cells: tuple[Cell, ...]
    protocol: str
    skipped: tuple[Skipped, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip transfer --json` prints."""
        return {
            "cells": to_json(self.cells),
            "protocol": self.protocol,
            "skipped": to_json(self.skipped),
        }

    def __str__(self) -> str:
        width = max(len(f"{cell.train} -> {cell.test}") for cell in self.cells)
        lines = [self.protocol]
        for cell in self.cells:
            pair = f"{cell.train} -> {cell.test}"
            said = (
                "fewer than two classes in common"
                if cell.accuracy is None
                else (f"{cell.accuracy}, {len(cell.classes)} classes, {cell.images:,} images")
            )
            if cell.repeats:
                said += f", {cell.repeats:,} others left out: they repeat training images"
            lines.append(f"{pair:<{width}}  {said}")
        return "\n".join(lines)


@dataclass(frozen=True)
class TransferSettings:
    """Which head on which views, in how many folds on the diagonal."""

    choice: HeadChoice = field(default_factory=HeadChoice)
    views: str = "plain"
    folds: int = 5
    seed: int = 0


def measure_transfer(
    encoder: Encoder,
    train: Mapping[str, LabelledSplits],
    test: Mapping[str, LabelledSplits],
    cache: VectorCache,
    settings: TransferSettings | None = None,
    *,
    names: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    step: Callable[[str], None] | None = None,
) -> TransferResult:
    """Measure every pair; a data set under the same key in both is one of the diagonal.

    names: other name -> name, for classes that are called differently; beyond that names match as
    in `match_names`. Raises DatasetError when no pair shares two
    classes.
    """
    settings = settings or TransferSettings()
    say = step or (lambda _what: None)
    prepared: dict[str, Prepared] = {}
    for key, splits in {**train, **test}.items():
        say(f"reading {key}")
        renamed = rename_classes(splits, names or {})
        # One preparation for both roles: parts do not matter here.
        renamed = replace(renamed, part=np.full(len(renamed), "train"))
        prepared[key] = prepare(
            encoder, renamed, cache, views=named_views(settings.views), progress=progress
        )
    cells = []
    for source in train:
        for target in test:
            say(f"{source} -> {target}")
            cells.append(_cell(encoder, prepared, source, target, settings))
    if all(cell.accuracy is None for cell in cells):
        raise DatasetError(
            "no two data sets share two classes: "
            + "; ".join(f"{key} has {', '.join(one.classes[:6])}" for key, one in prepared.items())
            + "; map names with --map OTHER=NAME"
        )
    return TransferResult(
        cells=tuple(cells),
        protocol=(
            f"{settings.choice.kind} head on frozen features of {encoder.name}; the same data set: "
            f"{settings.folds} grouped folds; another: all of the one, tested on all of the other, "
            "classes that both have, no picture on both sides. 95 % intervals over groups."
        ),
        skipped=tuple(skipped for one in prepared.values() for skipped in one.skipped),
    )


def rename_classes(splits: LabelledSplits, names: Mapping[str, str]) -> LabelledSplits:
    """Give classes the names that `names` has for them; those that get one name become one."""
    own, others = splits.labelled.classes, tuple(names)
    renamed = match_names(own, others).tolist()
    called = [
        names[others[row]] if row >= 0 else name for name, row in zip(own, renamed, strict=True)
    ]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(called))}
    numbers = np.array([number_of[name] for name in called], dtype=np.int64)
    labelled = replace(
        splits.labelled, labels=numbers[splits.labelled.labels], classes=tuple(number_of)
    )
    return replace(splits, labelled=labelled)


def _cell(
    encoder: Encoder,
    prepared: Mapping[str, Prepared],
    source: str,
    target: str,
    settings: TransferSettings,
) -> Cell:
    one, other = prepared[source], prepared[target]
    if source == target:
        fit = head_fitter(settings.choice, one.classes, encoder)
        learnt = learn(one, fit, folds=settings.folds, seed=settings.seed)
        return _scored((source, target), one, learnt.rows, learnt.scores)
    meant = match_names(other.classes, one.classes)
    both = np.unique(meant[meant >= 0])
    shared = tuple(one.classes[row] for row in both)
    if len(shared) < 2:
        return Cell(source, target, shared, 0, 0, None, None)
    place = np.full(len(one.classes) + 1, -1)  # the last for the -1 of what is not meant
    place[both] = np.arange(len(both))
    train, test = _of_classes(one, shared, place[:-1]), _of_classes(other, shared, place[meant])
    fit = head_fitter(settings.choice, shared, encoder)
    head = fit(*training_rows(train.table, train.labels, train.group, np.arange(len(train))))
    table = train.table
    known = find_known(test.table, Pictures(table.contents, table.pooled, table.hashes))
    rows = np.flatnonzero(~np.isin(test.group, test.group[known >= 0]))
    return _scored((source, target), test, rows, view_scores(head, test.table, rows))


def _of_classes(prepared: Prepared, classes: Sequence[str], numbers: IntArray) -> Prepared:
    """Return the images whose class gets a number of `classes`; numbers: (C,), -1 for none."""
    labels = numbers[prepared.labels]
    rows = np.flatnonzero(labels >= 0)
    return replace(prepared.rows(rows), classes=tuple(classes), labels=labels[rows])


def _scored(pair: tuple[str, str], tested: Prepared, rows: IntArray, scores: Scores) -> Cell:
    left_out = len(tested) - len(rows)
    if not len(rows):
        return Cell(*pair, tested.classes, 0, left_out, None, None)
    found = score_classifier(
        softmax(scores), tested.labels[rows], tested.classes, tested.group[rows]
    )
    return Cell(*pair, tested.classes, len(rows), left_out, found.accuracy, found.macro_f1)
