"""How good a fitted classifier is on new labelled images, and how far these are from its own.

The model stays as it is. Images that repeat what it has learnt from do not count, as long as others
are left. With `recalibrate` some of these fit its rules anew, and only the rest judge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from miniclip.arrays import IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.datasets.spelling import match_names
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, DatasetError
from miniclip.evaluate.training_repeats import TrainingRepeats, training_repeats
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.evidence import held_out_image
from miniclip.probe.figures import figures_of
from miniclip.probe.fit import held_out
from miniclip.probe.intervals import Score, share
from miniclip.probe.model import ClassifierModel
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.results import Figures, HeldOutImage, to_json
from miniclip.probe.rules import HeldOut, Judged, Rules, fit_rules, judge
from miniclip.probe.summary import figure_lines

DRIFTED = 0.1  # of the KS statistic: the two distributions lie a tenth apart somewhere
FEWEST_TO_RECALIBRATE = 20
_P = 0.01
_UNTOLD = "drift cannot be told from repeats of training images"


@dataclass(frozen=True)
class Shift:
    """One number of each image, at the fit and now.

    before, now: medians. statistic: of Kolmogorov and Smirnov, the largest distance of the two
    distributions, in [0, 1]; p: how often chance alone sets them as far apart.
    """

    before: float
    now: float
    statistic: float
    p: float

    @property
    def drifted(self) -> bool:
        """Whether the shift is large, and no accident."""
        return self.statistic > DRIFTED and self.p < _P


@dataclass(frozen=True)
class Drift:
    """How far new images are from those of the fit.

    distance: to the training features, as the gate measures it; confidence: calibrated. refused:
    share that the gate turns away. covered: whether the coverage of the sets lies in its band.
    """

    distance: Shift
    confidence: Shift
    refused: Score
    covered: bool
    verdict: str


@dataclass(frozen=True)
class EvaluationResult:
    """Figures of a model on new data.

    repeats: which images the model has learnt from. figures: of the others, with the rules of the
    model; of all where no other is left. with_repeats: of all, where some are repeats. drift,
    held_out: of the images behind `figures`. recalibrated: with rules fitted on `recalibrated_on`
    of these, on the rest; before_recalibration: the model's own rules on that rest.
    """

    name: str
    classes: tuple[str, ...]
    head: str
    protocol: str
    figures: Figures
    drift: Drift
    held_out: tuple[HeldOutImage, ...]
    repeats: TrainingRepeats
    with_repeats: Figures | None = None
    recalibrated: Figures | None = None
    before_recalibration: Figures | None = None
    recalibrated_on: int = 0
    rules: Rules | None = None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def repeats_of_training(self) -> int:
        """How many images the model has learnt from, as good as."""
        return self.repeats.count

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip evaluate classifier --json` prints."""
        rest = (
            "classes", "drift", "repeats_of_training", "repeats", "with_repeats", "recalibrated",
            "before_recalibration", "recalibrated_on", "protocol", "warnings", "skipped",
        )  # fmt: skip
        return (
            {"data": self.name}
            | self.figures.to_dict()
            | {name: to_json(getattr(self, name)) for name in rest}
        )

    def __str__(self) -> str:
        lines = [self.protocol, self.repeats.verdict, *figure_lines(self.figures, new=True)]
        if self.with_repeats and self.repeats.left:
            own = figure_lines(self.with_repeats, new=True)[:2]
            lines += [f"  with the repeats: {line}" for line in own]
        lines.append(self.drift.verdict)
        if self.recalibrated and self.before_recalibration:
            lines.append(f"recalibrated on {self.recalibrated_on} images, on the others:")
            lines += [
                f"  before  {line}"
                for line in figure_lines(self.before_recalibration, new=True)[2:]
            ]
            lines += [f"  now     {line}" for line in figure_lines(self.recalibrated, new=True)[2:]]
        return "\n".join(lines)


def evaluate_classifier(
    model: ClassifierModel,
    encoder: Encoder,
    splits: LabelledSplits,
    cache: VectorCache,
    *,
    recalibrate: int = 0,
    skip_unknown: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Measure a model on labelled images, all parts of the data set alike.

    Classes are matched by name. One that the model does not know is a DatasetError, or with
    `skip_unknown` its images are skipped by name. recalibrate: how many images, drawn by `seed`
    from those that repeat no training image, fit the rules anew; whole groups, so perhaps a few
    more.
    """
    model.check_encoder(encoder.name, encoder.fingerprint)
    splits, strangers = match_classes(splits, model.classes, skip_unknown=skip_unknown)
    prepared = prepare(encoder, splits, cache, views=model.views, progress=progress)
    rows = np.arange(len(prepared))
    everything = held_out(prepared, rows, view_scores(model.head, prepared.table))
    repeats = training_repeats(prepared, model.reference)
    held = everything.take(repeats.judging)
    judging = prepared.rows(rows[repeats.judging])
    judged = judge(model.rules, held.scores, held.contents)
    figures = figures_of(judged, held, model.classes, rules=model.rules)
    drift = _drift(model, judging, judged, held, figures)
    result = EvaluationResult(
        name=prepared.name,
        classes=model.classes,
        head=model.head.kind,
        protocol=(
            f"{len(judging):,} images of {len(np.unique(judging.labels))} of the model's "
            f"{len(model.classes)} classes, {prepared.name}. 95 % intervals over groups."
        ),
        figures=figures,
        drift=drift if repeats.left else replace(drift, verdict=_UNTOLD),
        held_out=tuple(
            held_out_image(judging, row, judged, place=row, fold=0) for row in range(len(judging))
        ),
        repeats=repeats,
        with_repeats=_figures(model.rules, everything, model.classes) if repeats.count else None,
        skipped=(*prepared.skipped, *strangers),
        warnings=(*prepared.warnings, *(() if repeats.left else (repeats.verdict,))),
    )
    return _recalibrated(result, model, held, recalibrate, seed) if recalibrate else result


def _figures(rules: Rules, held: HeldOut, classes: Sequence[str]) -> Figures:
    judged = judge(rules, held.scores, held.contents)
    return figures_of(judged, held, classes, rules=rules)


def match_classes(
    splits: LabelledSplits, classes: Sequence[str], *, skip_unknown: bool
) -> tuple[LabelledSplits, tuple[Skipped, ...]]:
    """Give labels the numbers of `classes`, as `match_names` finds them.

    Returns the images of known classes, and those of unknown ones as skipped. DatasetError when a
    class that has images is unknown and may not be skipped, or none is known.
    """
    own = splits.labelled.classes
    numbers = match_names(own, classes)
    labels = numbers[splits.labelled.labels]
    unknown = [own[label] for label in np.unique(splits.labelled.labels[labels < 0])]
    if unknown and (not skip_unknown or not (labels >= 0).any()):
        raise DatasetError(
            f"{splits.labelled.name} has classes that the model does not know: "
            f"{', '.join(unknown[:5])} (it knows {', '.join(classes[:10])}); rename them, or skip "
            "their images with --skip-unknown"
        )
    known = splits.rows(labels >= 0)
    matched = replace(
        known, labelled=replace(known.labelled, labels=labels[labels >= 0], classes=tuple(classes))
    )
    strangers = tuple(
        Skipped(source.name, f"the model does not know the class {own[label]!r}")
        for source, label, number in zip(
            splits.labelled.sources, splits.labelled.labels, labels, strict=True
        )
        if number < 0
    )
    return matched, strangers


def _drift(
    model: ClassifierModel, prepared: Prepared, judged: Judged, held: HeldOut, figures: Figures
) -> Drift:
    features = prepared.table.pooled
    distance = _shift(model.reference.distance, model.gate.distance(features))
    confidence = _shift(model.reference.confidence, judged.probabilities.max(axis=1))
    refused = share(model.gate.refuses(features), held.group, seed=model.rules.settings.seed)
    coverage, band = figures.conformal.coverage, figures.conformal.band
    covered = coverage.value >= band.low
    said = []
    if distance.drifted and distance.now > distance.before:  # nearer ones harm nobody
        said.append("these images look different from those of the fit")
    if confidence.drifted and confidence.now < confidence.before:
        said.append("the model is less sure of them")
    if not covered:
        said.append(f"its sets hold the label of {coverage.value:.1%} of them only")
    if refused.interval.low > 0.05:
        said.append(f"the gate refuses {refused.value:.1%}")
    verdict = "drift: " + "; ".join(said) if said else "no drift that matters"
    return Drift(distance, confidence, refused, covered, verdict)


def _shift(before: Any, now: Any) -> Shift:
    found = ks_2samp(before, now)
    return Shift(
        float(np.median(before)), float(np.median(now)), float(found.statistic), float(found.pvalue)
    )


def _recalibrated(
    result: EvaluationResult, model: ClassifierModel, held: HeldOut, wanted: int, seed: int
) -> EvaluationResult:
    if not result.repeats.left:
        raise ConfigError(
            f"all {len(held)} images repeat training images, by which nothing can be recalibrated; "
            "give images that the model has not learnt from"
        )
    chosen = _draw_groups(held.group, wanted, seed)
    if wanted < FEWEST_TO_RECALIBRATE or chosen.all():
        raise ConfigError(
            f"recalibrate is {wanted}, and there are {len(held)} images that repeat no training "
            "image; give at least "
            f"{FEWEST_TO_RECALIBRATE}, and leave some to judge by"
        )
    rules = fit_rules(held.take(chosen), model.rules.settings)
    rest = held.take(~chosen)

    return replace(
        result,
        recalibrated=_figures(rules, rest, model.classes),
        before_recalibration=_figures(model.rules, rest, model.classes),
        recalibrated_on=int(chosen.sum()),
        rules=rules,
    )


def _draw_groups(group: IntArray, wanted: int, seed: int) -> Any:
    """Draw whole groups at random until they hold the wanted number of images: (H,) bool."""
    names, number = np.unique(group, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(number)[order]
    drawn = order[np.cumsum(sizes) - sizes < wanted]
    return np.isin(number, drawn)
