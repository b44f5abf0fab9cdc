"""Figures of judged images, each with its interval. What is said of them is up to rules.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miniclip.metrics import Interval
from miniclip.probe.abstain import risk_coverage
from miniclip.probe.calibration import brier, ece, nll, reliability_bins, softmax
from miniclip.probe.conformal import coverage_band
from miniclip.probe.intervals import Score, share
from miniclip.probe.results import (
    AbstentionResult,
    Calibration,
    ConformalResult,
    CurvePoint,
    Figures,
)
from miniclip.probe.rules import HeldOut, Judged, Rules
from miniclip.probe.scores import score_classifier

_CURVE_POINTS = 200


def figures_of(
    judged: Judged,
    held: HeldOut,
    classes: Sequence[str],
    *,
    rules: Rules,
    folds: int = 1,
) -> Figures:
    """Measure H judged images.

    rules: of the model, as it will be used. folds: when above 1, `judged` comes from rules of that
    many folds, each fitted on the others; the band of the coverage then is that of a single split
    into as many images to fit on and to judge, close to but not exactly that of all folds together.
    """
    seed = rules.settings.seed
    labels, group = held.labels, held.group
    return Figures(
        scores=score_classifier(judged.probabilities, labels, classes, group, seed=seed),
        calibration=_calibration(judged, held, rules),
        conformal=_conformal(judged, held, rules, folds),
        abstention=_abstention(judged, held, rules),
    )


def _calibration(judged: Judged, held: HeldOut, rules: Rules) -> Calibration:
    raw = softmax(held.scores)
    return Calibration(
        temperature=rules.temperature,
        ece_before=ece(raw, held.labels),
        brier_before=brier(raw, held.labels),
        nll_before=nll(raw, held.labels),
        bins=reliability_bins(judged.probabilities, held.labels),
    )


def _conformal(judged: Judged, held: HeldOut, rules: Rules, folds: int) -> ConformalResult:
    hits = judged.label_sets[np.arange(len(held)), held.labels]
    sizes = judged.label_sets.sum(axis=1)
    settings = rules.settings
    fitted_on = rules.fitted_on * (folds - 1) // folds if folds > 1 else rules.fitted_on
    return ConformalResult(
        method=settings.sets,
        alpha=settings.alpha,
        per_class=settings.per_class,
        coverage=share(hits, held.group, seed=settings.seed),
        band=coverage_band(fitted_on, len(held), settings.alpha),
        set_size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
    )


def _abstention(judged: Judged, held: HeldOut, rules: Rules) -> AbstentionResult:
    confidence = judged.probabilities.max(axis=1)
    correct = judged.probabilities.argmax(axis=1) == held.labels
    automatic, seed = judged.automatic, rules.settings.seed
    curve = risk_coverage(confidence, correct)
    shown = np.unique(np.linspace(0, len(curve.coverage) - 1, _CURVE_POINTS).astype(int)).tolist()
    return AbstentionResult(
        target_error=rules.settings.target_error,
        threshold=rules.threshold,
        automatic=share(automatic, held.group, seed=seed),
        error=(
            share(~correct[automatic], held.group[automatic], seed=seed)
            if automatic.any()
            else Score(0.0, Interval(0.0, 1.0))
        ),
        expected_error=rules.expected_error,
        aurc=curve.aurc,
        curve=tuple(
            CurvePoint(
                *(float(part[point]) for part in (curve.coverage, curve.error, curve.threshold))
            )
            for point in shown
        ),
    )
