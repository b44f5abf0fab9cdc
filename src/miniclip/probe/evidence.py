"""What lies behind the figures: repeats, shortcuts, doubtful labels, strangers, look-alikes.

Each is found in a file of its own; here they are gathered for one fit. It fits no head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.probe.doubts import label_doubts, next_to_label
from miniclip.probe.gate import Gate, held_out_distances
from miniclip.probe.intervals import share
from miniclip.probe.learn import Learnt
from miniclip.probe.neighbours import Neighbours
from miniclip.probe.prepare import Prepared
from miniclip.probe.results import (
    GateResult,
    HeldOutImage,
    LabelConflict,
    LabelDoubt,
    Neighbour,
    RepeatsResult,
)
from miniclip.probe.rules import Judged
from miniclip.probe.shortcuts import Shortcut, probe_shortcuts
from miniclip.probe.splits import Folds, make_folds

_LOOK_ALIKES = 3
_GATE_FOLDS = 5  # where a val part leaves no folds


@dataclass(frozen=True)
class Evidence:
    """See the fields of `FitResult`; distances: (H,) float64 of held-out images to the gate."""

    gate: Gate
    gate_result: GateResult
    distances: NDArray[np.float64]
    repeats: RepeatsResult
    shortcuts: tuple[Shortcut, ...]
    doubts: tuple[LabelDoubt, ...]
    next_to_label: tuple[str, ...]
    held_out: tuple[HeldOutImage, ...]
    nearest: dict[str, tuple[Neighbour, ...]]


def gather(prepared: Prepared, learnt: Learnt, judged: Judged, *, seed: int) -> Evidence:
    """Gather everything about images that are held out, judged as in `judged`."""
    gate, distances, group = _gate(prepared, learnt, seed)
    refused = share(distances > gate.threshold, group, seed=seed)
    return Evidence(
        gate=gate,
        gate_result=GateResult(gate.settings["kind"], refused),
        distances=distances,
        repeats=repeats_of(prepared),
        shortcuts=_shortcuts(prepared, learnt, seed),
        doubts=_doubts(prepared, learnt, judged),
        next_to_label=tuple(
            prepared.table.names[learnt.rows[place]]
            for place in next_to_label(judged.probabilities, prepared.table.pooled[learnt.rows])
        ),
        held_out=tuple(
            held_out_image(prepared, row, judged, place, fold)
            for place, (row, fold) in enumerate(
                zip(learnt.rows.tolist(), learnt.fold_of.tolist(), strict=True)
            )
        ),
        nearest=look_alikes(prepared, learnt, judged),
    )


def _gate(
    prepared: Prepared, learnt: Learnt, seed: int
) -> tuple[Gate, NDArray[np.float64], IntArray]:
    """Fit the gate on train and val, with the held-out distances of all of these, and groups."""
    rows, fold_of = learnt.rows, learnt.fold_of
    if not learnt.cross_fitted:
        rows = prepared.where("train", "val")
        group = prepared.group[rows]
        fold_of = make_folds(np.zeros_like(group), group, folds=_GATE_FOLDS, seed=seed).fold_of
    features = prepared.table.pooled[rows]
    distances = held_out_distances(features, fold_of, seed=seed)
    gate = Gate.fit(features, fold_of, seed=seed, held_out=distances)
    return gate, distances, prepared.group[rows]


def held_out_image(
    prepared: Prepared, row: int, judged: Judged, place: int, fold: int
) -> HeldOutImage:
    """Say what was said of one image: its row number, and its place among the judged ones."""
    probabilities = judged.probabilities[place]
    answer = int(probabilities.argmax())
    label = int(prepared.labels[row])
    return HeldOutImage(
        name=prepared.table.names[row],
        label=prepared.classes[label],
        predicted=prepared.classes[answer],
        probability=float(probabilities[answer]),
        label_probability=float(probabilities[label]),
        fold=fold,
        label_set=tuple(
            name
            for name, inside in zip(prepared.classes, judged.label_sets[place], strict=True)
            if inside
        ),
        automatic=bool(judged.automatic[place]),
    )


def look_alikes(
    prepared: Prepared, learnt: Learnt, judged: Judged
) -> dict[str, tuple[Neighbour, ...]]:
    """Find for each wrong answer the training images that look most like it.

    Those that its head could see: with folds, images of the other folds.
    """
    wrong = np.flatnonzero(judged.probabilities.argmax(axis=1) != prepared.labels[learnt.rows])
    features = prepared.table.pooled
    apart = (learnt.fold_of[wrong], learnt.fold_of) if learnt.cross_fitted else None
    rows, cosines = Neighbours(features[learnt.learnt_from]).nearest(
        features[learnt.rows[wrong]], _LOOK_ALIKES, apart=apart
    )
    names = prepared.table.names
    return {
        names[learnt.rows[place]]: tuple(
            Neighbour(names[learnt.learnt_from[row]], float(cosine))
            for row, cosine in zip(rows[number], cosines[number], strict=True)
            if np.isfinite(cosine)
        )
        for number, place in enumerate(wrong.tolist())
    }


def repeats_of(prepared: Prepared) -> RepeatsResult:
    """Put the repeats into words."""
    found, classes = prepared.repeats, prepared.classes
    before = np.isin(prepared.group, prepared.group[prepared.where("train")])
    later = prepared.where("val", "test")
    return RepeatsResult(
        exact=found.exact,
        near=found.near,
        across_parts=int(before[later].sum()),
        pairs=found.pairs,
        conflicts=tuple(
            LabelConflict(one, other, classes[first], classes[second])
            for one, other, first, second in found.conflicting
        ),
    )


def _doubts(prepared: Prepared, learnt: Learnt, judged: Judged) -> tuple[LabelDoubt, ...]:
    labels = prepared.labels[learnt.rows]
    return tuple(
        LabelDoubt(
            image.name,
            image.label,
            image.predicted,
            label_probability=image.label_probability,
            predicted_probability=image.probability,
        )
        for place in label_doubts(judged.probabilities, labels).tolist()
        for image in [held_out_image(prepared, int(learnt.rows[place]), judged, place, fold=0)]
    )


def _shortcuts(prepared: Prepared, learnt: Learnt, seed: int) -> tuple[Shortcut, ...]:
    """Probe shortcuts on the folds of the fit, or on the held-out part in folds of its own."""
    rows = learnt.rows
    folds = Folds(learnt.fold_of, seed, "grouped")
    return probe_shortcuts(
        prepared.table.rows(rows), prepared.labels[rows], folds, groups=prepared.group[rows]
    )
