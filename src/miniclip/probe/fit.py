"""`fit_classifier`: a labelled data set and an encoder in, a model and everything known of it out.

Each step is a file of its own; this one puts them in order and writes nothing. Without a val part
the figures are cross-fitted over grouped folds; a test part is only ever reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from time import perf_counter
from typing import Any

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.bench import Bench
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.evidence import gather
from miniclip.probe.figures import figures_of
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Head, Scores
from miniclip.probe.learn import Learnt, MlpTrainer
from miniclip.probe.model import (
    CARD_FILE,
    IMAGES_FILE,
    METRICS_FILE,
    ClassifierModel,
    Reference,
    json_bytes,
)
from miniclip.probe.model_card import write_card
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.results import DataSummary, Figures, FitResult, HeadSummary
from miniclip.probe.rules import HeldOut, Rules, cross_judge, fit_rules, judge

_VERSIONED = ("miniclip", "numpy", "scikit-learn", "onnxruntime", "pillow")


@dataclass(frozen=True)
class Fitted:
    """A model, what is known of it, and the images that it came from."""

    model: ClassifierModel
    result: FitResult
    prepared: Prepared = field(repr=False)
    learnt: Learnt = field(repr=False)

    def contents(self) -> dict[str, bytes]:
        """Return the files of the model directory, but for the report, by name."""
        return self.model.files() | {
            IMAGES_FILE: json_bytes(self._images()),
            METRICS_FILE: json_bytes(self.result.findings()),
            CARD_FILE: write_card(self.result).encode("utf-8", errors="backslashreplace"),
        }

    def _images(self) -> list[dict[str, Any]]:
        """Say of each image where it stood and, if it was held out, what was said of it."""
        prepared, table = self.prepared, self.prepared.table
        learnt_from = set(self.learnt.learnt_from.tolist())
        said = {image.name: image for image in self.result.held_out}
        images = []
        for row, name in enumerate(table.names):
            image = {
                "name": name,
                "content": table.contents[row],
                "label": prepared.classes[prepared.labels[row]],
                "part": str(prepared.part[row]),
                "group": int(prepared.group[row]),
                "learnt_from": row in learnt_from,
            }
            if name in said:
                image |= {
                    "fold": said[name].fold,
                    "predicted": said[name].predicted,
                    "probability": said[name].probability,
                    "set": list(said[name].label_set),
                    "automatic": said[name].automatic,
                }
            images.append(image)
        return images


def fit_classifier(
    encoder: Encoder,
    splits: LabelledSplits,
    cache: VectorCache,
    settings: FitSettings | None = None,
    *,
    trainer: MlpTrainer | None = None,
    progress: Progress | None = None,
    step: Callable[[str], None] | None = None,
) -> Fitted:
    """Fit a classifier and find out how good it is.

    cache: where features come from and go to, so that a second fit, or one after a kill, computes
    none again. trainer: of MLP heads. progress: called with the images done, one a view; step: with
    what is done next. Equal data, settings and seed give an equal model on one machine.
    DatasetError, ConfigError and MissingExtraError say what is wrong and what to do about it.
    """
    settings = settings or FitSettings()
    say = step or (lambda _what: None)
    started = perf_counter()
    say("reading features")
    prepared = prepare(encoder, splits, cache, views=settings.view_list, progress=progress)
    read = perf_counter()
    bench = Bench(encoder, prepared, settings, trainer, say)
    fitted = conclude(bench, bench.learn(settings.choice))
    seconds = {"features": read - started, "fit": perf_counter() - read}
    return replace(fitted, result=replace(fitted.result, seconds=seconds))


def conclude(bench: Bench, learnt: Learnt) -> Fitted:
    """Say everything about a head that is fitted on the images of the bench."""
    prepared, settings = bench.prepared, bench.settings
    bench.say("measuring")
    held = held_out(prepared, learnt.rows, learnt.scores)
    judged = cross_judge(held, learnt.fold_of, settings.rules)
    rules = fit_rules(held, settings.rules).proven_by(judged)
    folds = len(np.unique(learnt.fold_of))
    figures = figures_of(judged, held, prepared.classes, rules=rules, folds=folds)
    test, test_naive = _tested(prepared, learnt.head, rules)
    evidence = gather(prepared, learnt, judged, seed=settings.seed)
    reference = Reference(
        names=tuple(prepared.table.names[row] for row in learnt.learnt_from),
        contents=tuple(prepared.table.contents[row] for row in learnt.learnt_from),
        labels=prepared.labels[learnt.learnt_from],
        features=prepared.table.pooled[learnt.learnt_from].astype(np.float16),
        confidence=judged.probabilities.max(axis=1).astype(np.float32),
        distance=evidence.distances.astype(np.float32),
        hashes=prepared.table.hashes[learnt.learnt_from],
    )
    model = ClassifierModel(
        classes=prepared.classes,
        head=learnt.head,
        rules=rules,
        gate=evidence.gate,
        reference=reference,
        bundle_name=bench.encoder.name,
        bundle_fingerprint=bench.encoder.fingerprint,
        views_text=settings.views,
        about=_about(prepared, settings),
    )
    result = FitResult(
        data=_data(prepared),
        head=_head(bench, learnt.head),
        settings=asdict(settings),
        classes=prepared.classes,
        protocol=_protocol(prepared, learnt),
        figures=figures,
        naive=bench.naive(learnt, figures.scores),
        gate=evidence.gate_result,
        repeats=evidence.repeats,
        shortcuts=evidence.shortcuts,
        doubts=evidence.doubts,
        next_to_label=evidence.next_to_label,
        held_out=evidence.held_out,
        nearest=evidence.nearest,
        presets=bench.presets(learnt),
        rivals=bench.rivals(learnt),
        test=test,
        test_naive=test_naive,
        skipped=prepared.skipped,
        warnings=(*prepared.warnings, *learnt.warnings, *_bare_parts(prepared)),
        reproduce=settings.command(prepared.name),
        features_computed=prepared.table.computed,
    )
    return Fitted(model, result, prepared, learnt)


def held_out(prepared: Prepared, rows: IntArray, scores: Scores) -> HeldOut:
    """Put the truth beside the scores (H, C) of the images at `rows`."""
    contents = tuple(prepared.table.contents[row] for row in rows)
    return HeldOut(scores, prepared.labels[rows], prepared.group[rows], contents)


def _tested(prepared: Prepared, head: Head, rules: Rules) -> tuple[Figures | None, Figures | None]:
    """Judge the test part by the finished model: without repeats of the rest, and with them."""
    test = prepared.where("test")
    if not len(test):
        return None, None
    repeated = np.isin(prepared.group[test], prepared.group[prepared.where("train", "val")])

    def judged(rows: IntArray) -> Figures | None:
        if not len(rows):
            return None
        held = held_out(prepared, rows, view_scores(head, prepared.table, rows))
        said = judge(rules, held.scores, held.contents)
        return figures_of(said, held, prepared.classes, rules=rules)

    clean = judged(test[~repeated])
    return clean, judged(test) if repeated.any() else clean


def _bare_parts(prepared: Prepared) -> list[str]:
    """Say which classes a val or test part has no image of, and what that does to the mean."""
    said = []
    for part in ("val", "test"):
        there = np.unique(prepared.labels[prepared.where(part)])
        bare = [name for row, name in enumerate(prepared.classes) if row not in there]
        if len(there) and bare:
            said.append(
                f"the {part} part has no image of {', '.join(bare[:5])}: its figures say nothing "
                "of what is missing, and its macro F1 is the mean over classes that are in it or "
                "were answered"
            )
    return said


def _about(prepared: Prepared, settings: FitSettings) -> dict[str, Any]:
    return {
        "data": {"name": prepared.name, "fingerprint": prepared.fingerprint},
        "settings": asdict(settings),
        "versions": {name: version(name) for name in _VERSIONED},
    }


def _data(prepared: Prepared) -> DataSummary:
    learning = prepared.where("train", "val")
    counts = np.bincount(prepared.labels[learning], minlength=len(prepared.classes)).tolist()
    return DataSummary(
        name=prepared.name,
        images=dict(zip(prepared.classes, counts, strict=True)),
        parts={part: len(prepared.where(part)) for part in ("train", "val", "test")},
        groups=len(np.unique(prepared.group)),
        fingerprint=prepared.fingerprint,
    )


def _head(bench: Bench, head: Head) -> HeadSummary:
    return HeadSummary(
        kind=head.kind,
        settings=dict(head.settings),
        views=tuple(view.name for view in bench.settings.view_list),
        bundle=bench.encoder.name,
        bundle_fingerprint=bench.encoder.fingerprint,
    )


def _protocol(prepared: Prepared, learnt: Learnt) -> str:
    images, groups = len(learnt.rows), len(np.unique(prepared.group[learnt.rows]))
    folds = len(np.unique(learnt.fold_of))
    if learnt.cross_fitted:
        how = f"{folds} stratified folds held out in turn; the model is then fitted on all of them"
    else:
        how = f"held out from {len(learnt.learnt_from):,} images that the head has learnt from"
    return (
        f"{images:,} images of {len(prepared.classes)} classes in {groups:,} groups (repeated "
        f"pictures and what belongs together count as one), {how}. Temperature, sets and threshold "
        "judge only images that they were not fitted on. 95 % intervals over groups."
    )
