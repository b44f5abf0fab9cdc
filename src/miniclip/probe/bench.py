"""One set of images, and what can be fitted on it: heads, rival heads, and the split that leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from miniclip.arrays import IntArray
from miniclip.encoder import Encoder
from miniclip.probe.calibration import softmax
from miniclip.probe.comparison import compare
from miniclip.probe.cross_fit import FitHead, cross_fit
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Head, HeadSettings, Scores
from miniclip.probe.learn import HeadChoice, Learnt, MlpTrainer, head_fitter, learn
from miniclip.probe.prepare import Prepared
from miniclip.probe.presets import compare_presets
from miniclip.probe.results import NaiveResult, PresetComparison, Rival
from miniclip.probe.scores import ClassifierScores, score_classifier
from miniclip.probe.splits import make_folds


@dataclass(frozen=True)
class Bench:
    """Prepared images, the encoder they were read with, the settings of the fit.

    trainer: of MLP heads, where there is one. say: called with what is done next.
    """

    encoder: Encoder
    prepared: Prepared
    settings: FitSettings
    trainer: MlpTrainer | None = None
    say: Callable[[str], None] = lambda _what: None

    def fitter(self, choice: HeadChoice) -> FitHead:
        """Return how a head of this choice is fitted."""
        return head_fitter(choice, self.prepared.classes, self.encoder, self.trainer)

    def learn(self, choice: HeadChoice) -> Learnt:
        """Fit a head, and score the images that are held out from it."""
        self.say(f"fitting the {choice.kind} head")
        settings = self.settings
        return learn(self.prepared, self.fitter(choice), folds=settings.folds, seed=settings.seed)

    def naive(self, learnt: Learnt, clean: ClassifierScores) -> NaiveResult | None:
        """Score the same head where repeats may straddle the split.

        None where there are repeats, but one split judges and none straddles it: to deal them anew
        would take another training.
        """
        prepared, settings = self.prepared, self.settings
        rows, scores = learnt.rows, learnt.scores
        known = np.union1d(rows, learnt.learnt_from)
        if len(learnt.straddling):
            rows = np.concatenate([rows, learnt.straddling])
            scores = np.concatenate([scores, learnt.straddling_scores])
        elif len(np.unique(prepared.group[known])) == len(known):
            return NaiveResult(clean.accuracy, clean.macro_f1)
        elif learnt.cross_fitted:
            # What the clean folds chose stays chosen: the naive ones show what a leak adds.
            choice = replace(settings.choice, overrides=_pinned(settings.choice, learnt.head))
            labels = prepared.labels[rows]
            dealt = make_folds(labels, None, folds=settings.folds, seed=settings.seed)
            table = prepared.table.rows(rows)
            fit = self.fitter(choice)
            scores = cross_fit(fit, table, labels, dealt, keep_heads=False).scores
        else:
            return None
        found = self._scored(rows, scores)
        return NaiveResult(found.accuracy, found.macro_f1)

    def rivals(self, learnt: Learnt) -> tuple[Rival, ...]:
        """Fit other heads on the same folds and compare them in pairs with the chosen one."""
        rivals = []
        labels, group = self.prepared.labels[learnt.rows], self.prepared.group[learnt.rows]
        correct = learnt.scores.argmax(axis=1) == labels
        for kind in self.settings.rivals:
            scores = self.learn(HeadChoice(kind, seed=self.settings.seed)).scores
            found = self._scored(learnt.rows, scores)
            hits = scores.argmax(axis=1) == labels
            paired = compare(correct, hits, group, names=(self.settings.head, kind))
            rivals.append(Rival(kind, found.accuracy, found.macro_f1, paired))
        return tuple(rivals)

    def presets(self, learnt: Learnt) -> PresetComparison | None:
        """Train both presets of the MLP on the same images, if that was asked for."""
        if not self.settings.compare_presets or self.trainer is None:
            return None
        self.say("training both presets")
        return compare_presets(
            self.prepared,
            learnt,
            self.trainer,
            overrides=self.settings.mlp_overrides,
            seed=self.settings.seed,
        )

    def _scored(self, rows: IntArray, scores: Scores) -> ClassifierScores:
        prepared = self.prepared
        return score_classifier(
            softmax(scores),
            prepared.labels[rows],
            prepared.classes,
            prepared.group[rows],
            seed=self.settings.seed,
        )


def _pinned(choice: HeadChoice, head: Head) -> tuple[str, ...]:
    """Return overrides that fix what the head has chosen for itself."""
    chosen = dict(head.settings)
    if "penalty" in chosen:
        chosen["c"] = 1 / chosen["penalty"]
    keys = [entry.name for entry in fields(HeadSettings) if entry.name in chosen]
    own = () if choice.kind == "mlp" else tuple(f"{key}={chosen[key]}" for key in keys)
    return (*choice.overrides, *own)
