"""Two ways to train an MLP head on the same images, their curves side by side.

As those did who proposed them: on the features of the last layer, with one part of the images held
out. That part draws the validation curve and chooses nothing, so the scores at the end are held out
all the same. With folds it is the first of them: the presets train for minutes, and not to choose
one of them but to show what they do. The training itself is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from miniclip.arrays import IntArray
from miniclip.probe.calibration import softmax
from miniclip.probe.comparison import compare
from miniclip.probe.cross_fit import training_rows, view_scores
from miniclip.probe.learn import Learnt, MlpTrainer
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
    """Train both presets on what one head of `learnt` learned from; compare what they end with.

    overrides: "key=value" for the settings of both. progress: called with the trainings done.
    """
    table = prepared.table.first_part()
    train, held = _split(learnt)
    labels, group = prepared.labels[held], prepared.group[held]
    rows, row_labels, _ = training_rows(table, prepared.labels, prepared.group, train)
    runs: list[PresetRun] = []
    answers: list[IntArray] = []
    for done, preset in enumerate(PRESETS, start=1):
        trained = trainer(
            (rows.features, row_labels),
            (table.features[0, held], labels),
            classes=len(prepared.classes),
            preset=preset,
            overrides=overrides,
            seed=seed,
        )
        scores = view_scores(trained.head, table, held)
        found = score_classifier(softmax(scores), labels, prepared.classes, group, seed=seed)
        curves = trained.curves
        drawn = Curves(
            tuple(curves.train_loss),
            tuple(curves.validation_loss),
            tuple(curves.train_accuracy),
            tuple(curves.validation_accuracy),
        )
        runs.append(
            PresetRun(
                preset,
                dict(trained.head.settings),
                found.accuracy,
                found.macro_f1,
                drawn,
                drawn.rise,
            )
        )
        answers.append(scores.argmax(axis=1))
        if progress:
            progress(done)
    first, second = runs
    return PresetComparison(
        runs=tuple(runs),
        ratio_of_rises=first.rise / second.rise if second.rise > 0 else None,
        comparison=compare(answers[0] == labels, answers[1] == labels, group, names=PRESETS),
    )


def _split(learnt: Learnt) -> tuple[IntArray, IntArray]:
    """Row numbers to train on, and those held out."""
    if not learnt.cross_fitted:
        return learnt.learnt_from, learnt.rows
    held = learnt.fold_of == learnt.fold_of.min()
    return learnt.rows[~held], learnt.rows[held]
