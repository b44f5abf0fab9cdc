"""What a fitted classifier says of labelled images that it has not learnt from.

Of an image of the fit its held-out answer counts, which the model directory keeps; the finished
model is asked about others only. It compares no subgroups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, DatasetError
from miniclip.evaluate.classifier import match_classes
from miniclip.evaluate.training_repeats import UNSEARCHED, training_repeats
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.model import IMAGES_FILE, ClassifierModel
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.rules import judge

_LEARNT = "the model has learnt from it, and keeps no held-out answer; it would flatter the figures"
_REPEATS = "it repeats a picture that the model has learnt from; it would flatter the figures"


@dataclass(frozen=True)
class Answers:
    """N images with labels and what was said of them, held out.

    labels, predicted: (N,) int64 in [0, C). confidence: (N,) float64, calibrated, of the answer.
    covered: (N,) bool, whether the prediction set holds the label; automatic: (N,) bool, whether no
    person is asked. None where the model directory does not tell. cluster: (N,) int64 from 0, equal
    for images that share their luck. features: (N, F) float32 of the first part.
    """

    classes: tuple[str, ...]
    labels: IntArray
    predicted: IntArray
    confidence: NDArray[np.float64]
    cluster: IntArray
    covered: NDArray[np.bool_] | None = None
    automatic: NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    features: FloatArray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) bool: where the label came out."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def rows(self, index: NDArray[Any]) -> Answers:
        """Return some of the images: index (M,) integers, or (N,) bool."""
        chosen = np.arange(len(self))[index]
        return Answers(
            self.classes,
            self.labels[chosen],
            self.predicted[chosen],
            self.confidence[chosen],
            self.cluster[chosen],
            None if self.covered is None else self.covered[chosen],
            None if self.automatic is None else self.automatic[chosen],
            tuple(self.names[row] for row in chosen) if self.names else (),
            tuple(self.paths[row] for row in chosen) if self.paths else (),
            None if self.features is None else self.features[chosen],
        )


@dataclass(frozen=True)
class Asked:
    """Answers, and where they come from: how many were kept by the fit, and how many are new."""

    answers: Answers
    name: str
    kept: int
    new: int
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


def ask_model(
    model: ClassifierModel,
    encoder: Encoder,
    splits: LabelledSplits,
    cache: VectorCache,
    *,
    skip_unknown: bool = False,
    progress: Progress | None = None,
) -> Asked:
    """Gather an honest answer for each labelled image, all parts of the data set alike.

    An image that the head has learnt from without ever being held out, or a repeat of one, is
    skipped by name. Errors as `evaluate_classifier`; DatasetError when no image is left.
    """
    model.check_encoder(encoder.name, encoder.fingerprint)
    splits, strangers = match_classes(splits, model.classes, skip_unknown=skip_unknown)
    prepared = prepare(encoder, splits, cache, views=model.views, progress=progress)
    records = _records(model)
    of_row = [records.get(content) for content in prepared.table.contents]
    learnt = np.array([bool(one and one["learnt_from"]) for one in of_row])
    kept = np.array([bool(one and "predicted" in one) for one in of_row])
    known = training_repeats(prepared, model.reference)
    repeats = known.repeated & ~learnt & ~kept
    flattered = (learnt & ~kept) | repeats
    rows = np.flatnonzero(~flattered)
    if not len(rows):
        raise DatasetError(
            f"the model has learnt from all {len(learnt)} images of {prepared.name}; audit it on "
            "images that it has not seen, or fit with folds, which hold each image out once"
        )
    answers = _answers(model, prepared, of_row, kept, rows)
    names = prepared.table.names
    skipped = (
        *prepared.skipped,
        *strangers,
        *(
            Skipped(names[row], _REPEATS if repeats[row] else _LEARNT)
            for row in np.flatnonzero(flattered).tolist()
        ),
    )
    old = kept[rows].any() and answers.covered is None
    said = list(prepared.warnings)
    if old:
        said.append(
            "the model was fitted before it kept its prediction sets; fit it again for coverage "
            "and the share decided automatically"
        )
    if not known.searched and not kept[rows].all():
        said.append(UNSEARCHED)
    return Asked(
        answers=answers,
        name=prepared.name,
        kept=int(kept[rows].sum()),
        new=int((~kept[rows]).sum()),
        skipped=skipped,
        warnings=tuple(said),
    )


def _answers(
    model: ClassifierModel,
    prepared: Prepared,
    of_row: Sequence[Mapping[str, Any] | None],
    kept: NDArray[np.bool_],
    rows: IntArray,
) -> Answers:
    """Judge the rows by the finished model, then put kept answers in their place."""
    table = prepared.table.rows(rows)
    judged = judge(model.rules, view_scores(model.head, table), table.contents)
    predicted, labels = judged.probabilities.argmax(axis=1), prepared.labels[rows]
    confidence = judged.probabilities.max(axis=1)
    covered, automatic = judged.label_sets[np.arange(len(rows)), labels], judged.automatic.copy()
    number_of = {name: number for number, name in enumerate(model.classes)}
    complete = True
    for place, row in enumerate(rows.tolist()):
        record = of_row[row]
        if not kept[row] or record is None:
            continue
        predicted[place] = number_of[record["predicted"]]
        confidence[place] = record["probability"]
        complete &= "set" in record
        covered[place] = model.classes[labels[place]] in record.get("set", ())
        automatic[place] = record.get("automatic", False)
    return Answers(
        classes=model.classes,
        labels=labels,
        predicted=predicted.astype(np.int64),
        confidence=confidence,
        cluster=np.unique(prepared.group[rows], return_inverse=True)[1].astype(np.int64),
        covered=covered if complete else None,
        automatic=automatic if complete else None,
        names=table.names,
        paths=table.paths,
        features=table.pooled,
    )


def _records(model: ClassifierModel) -> dict[str, Mapping[str, Any]]:
    """Read what the model directory says of each image, by the sha256 of its content."""
    if model.directory is None:
        return {}
    path = model.directory / IMAGES_FILE
    try:
        images = json.loads(path.read_text(encoding="utf-8"))
        return {image["content"]: image for image in images}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error!r}); fit the model again") from error
