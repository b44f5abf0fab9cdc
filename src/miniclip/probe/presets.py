"""Two ways to train an MLP head on the same folds, their curves side by side.

The held-out fold of each training draws its validation curve and chooses nothing, so the scores at
the end are held out all the same. The training itself is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from miniclip.arrays import IntArray
from miniclip.probe.calibration import softmax
from miniclip.probe.comparison import compare
from miniclip.probe.cross_fit import training_rows, view_scores
from miniclip.probe.learn import EpochCurves, Learnt, MlpTrainer
from miniclip.probe.prepare import Prepared
from miniclip.probe.results import Curves, PresetComparison, PresetRun
from miniclip.probe.scores import score_classifier

PRESETS = ("baseline", "robust")


def compare_presets(
    prepared: Prepared,
    learnt: Learnt,
    trainer: MlpTrainer,
    *,
    overrides: Sequence[str] = (),
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> PresetComparison:
    """Train both presets on the folds of `learnt` and compare what they end with.

    overrides: "key=value" for the settings of both. progress: called with the trainings done.
    """
    labels, group = prepared.labels[learnt.rows], prepared.group[learnt.rows]
    runs: list[PresetRun] = []
    answers: list[IntArray] = []
    done = 0
    for preset in PRESETS:
        scores = np.empty_like(learnt.scores)
        curves: list[EpochCurves] = []
        for train, inside in _rounds(learnt):
            rows, row_labels, _ = training_rows(
                prepared.table, prepared.labels, prepared.group, train
            )
            held = learnt.rows[inside]
            trained = trainer(
                (rows.features, row_labels),
                (prepared.table.features[0, held], prepared.labels[held]),
                classes=len(prepared.classes),
                preset=preset,
                overrides=overrides,
                seed=seed,
            )
            scores[inside] = view_scores(trained.head, prepared.table, held)
            curves.append(trained.curves)
            done += 1
            if progress:
                progress(done)
        found = score_classifier(softmax(scores), labels, prepared.classes, group, seed=seed)
        mean = mean_curves(curves)
        runs.append(
            PresetRun(
                preset, dict(trained.head.settings), found.accuracy, found.macro_f1, mean, mean.rise
            )
        )
        answers.append(scores.argmax(axis=1))
    first, second = runs
    return PresetComparison(
        runs=tuple(runs),
        ratio_of_rises=first.rise / second.rise if second.rise > 0 else None,
        comparison=compare(answers[0] == labels, answers[1] == labels, group, names=PRESETS),
    )


def mean_curves(curves: Sequence[EpochCurves]) -> Curves:
    """Average curves of several trainings, epoch by epoch, as far as the shortest goes."""
    parts = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    epochs = min(len(one.train_loss) for one in curves)
    means = [
        np.mean([getattr(one, part)[:epochs] for one in curves], axis=0).tolist() for part in parts
    ]
    return Curves(*map(tuple, means))


def _rounds(learnt: Learnt) -> list[tuple[IntArray, IntArray]]:
    """Row numbers to train on, and places (H,) that are held out, of each training."""
    if not learnt.cross_fitted:
        return [(learnt.learnt_from, np.arange(len(learnt.rows)))]
    folds = [learnt.fold_of == fold for fold in np.unique(learnt.fold_of)]
    return [(learnt.rows[~inside], np.flatnonzero(inside)) for inside in folds]
