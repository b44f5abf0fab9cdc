"""How good a fitted classifier is on new labelled images, and how far these are from its own.

The model stays as it is. With `recalibrate` some of the new images fit its rules anew, and only the
others judge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from miniclip.arrays import IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, DatasetError
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

    figures: with the rules of the model. recalibrated: with rules fitted on `recalibrated_on` of
    the new images, on the others; before_recalibration: the model's own rules on those others.
    """

    name: str
    classes: tuple[str, ...]
    head: str
    protocol: str
    figures: Figures
    drift: Drift
    held_out: tuple[HeldOutImage, ...]
    repeats_of_training: int
    recalibrated: Figures | None = None
    before_recalibration: Figures | None = None
    recalibrated_on: int = 0
    rules: Rules | None = None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip evaluate classifier --json` prints."""
        rest = (
            "classes", "drift", "repeats_of_training", "recalibrated", "before_recalibration",
            "recalibrated_on", "protocol", "warnings", "skipped",
        )  # fmt: skip
        return (
            {"data": self.name}
            | self.figures.to_dict()
            | {name: to_json(getattr(self, name)) for name in rest}
        )

    def __str__(self) -> str:
        lines = [self.protocol, *figure_lines(self.figures, new=True), self.drift.verdict]
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
    from all, fit the rules anew; whole groups, so perhaps a few more.
    """
    model.check_encoder(encoder.name, encoder.fingerprint)
    splits, strangers = match_classes(splits, model.classes, skip_unknown=skip_unknown)
    prepared = prepare(encoder, splits, cache, views=model.views, progress=progress)
    rows = np.arange(len(prepared))
    held = held_out(prepared, rows, view_scores(model.head, prepared.table))
    judged = judge(model.rules, held.scores, held.contents)
    figures = figures_of(judged, held, model.classes, rules=model.rules)
    known = set(model.reference.contents)
    result = EvaluationResult(
        name=prepared.name,
        classes=model.classes,
        head=model.head.kind,
        protocol=(
            f"{len(prepared):,} images of {len(np.unique(prepared.labels))} of the model's "
            f"{len(model.classes)} classes, {prepared.name}; the model has learnt from none of "
            "them unless it says so below. 95 % intervals over groups."
        ),
        figures=figures,
        drift=_drift(model, prepared, judged, held, figures),
        held_out=tuple(
            held_out_image(prepared, row, judged, place=row, fold=0) for row in range(len(prepared))
        ),
        repeats_of_training=sum(content in known for content in held.contents),
        skipped=(*prepared.skipped, *strangers),
        warnings=prepared.warnings,
    )
    return _recalibrated(result, model, held, recalibrate, seed) if recalibrate else result


def match_classes(
    splits: LabelledSplits, classes: Sequence[str], *, skip_unknown: bool
) -> tuple[LabelledSplits, tuple[Skipped, ...]]:
    """Give labels the numbers of `classes`, whatever the case and hyphens of their names.

    Returns the images of known classes, and those of unknown ones as skipped. DatasetError when a
    class is unknown and may not be skipped, or none is known.
    """
    number_of = {spelling(name): number for number, name in enumerate(classes)}
    own = splits.labelled.classes
    numbers = np.array([number_of.get(spelling(name), -1) for name in own], dtype=np.int64)
    unknown = [name for name, number in zip(own, numbers, strict=True) if number < 0]
    if (unknown and not skip_unknown) or len(unknown) == len(own):
        raise DatasetError(
            f"{splits.labelled.name} has classes that the model does not know: "
            f"{', '.join(unknown[:5])} (it knows {', '.join(classes[:10])}); rename them, or skip "
            "their images with --skip-unknown"
        )
    labels = numbers[splits.labelled.labels]
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


def spelling(name: str) -> str:
    """Reduce a class name to what two spellings of it share."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


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
    chosen = _draw_groups(held.group, wanted, seed)
    if wanted < FEWEST_TO_RECALIBRATE or chosen.all():
        raise ConfigError(
            f"recalibrate is {wanted}, and there are {len(held)} images; give at least "
            f"{FEWEST_TO_RECALIBRATE}, and leave some to judge by"
        )
    rules = fit_rules(held.take(chosen), model.rules.settings)
    rest = held.take(~chosen)

    def with_rules(used: Rules) -> Figures:
        said = judge(used, rest.scores, rest.contents)
        return figures_of(said, rest, model.classes, rules=used)

    return replace(
        result,
        recalibrated=with_rules(rules),
        before_recalibration=with_rules(model.rules),
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
