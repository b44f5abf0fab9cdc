"""From a head's scores to what is said and done: probabilities, prediction sets, who decides.

The rules are fitted on held-out scores. `cross_judge` says what they are worth: each fold is judged
by rules that were fitted on the other folds. The head itself is fitted elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.metrics import Interval
from miniclip.probe.abstain import NEVER, choose_threshold
from miniclip.probe.calibration import fit_temperature, softmax
from miniclip.probe.conformal import coins_of, conformal_quantiles, prediction_sets
from miniclip.probe.heads.head import Scores
from miniclip.probe.intervals import Score
from miniclip.probe.results import to_json

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RuleSettings:
    """What the rules aim at.

    alpha: how often a prediction set may miss the true label. sets: conformal method. per_class:
    keep that promise for each class. target_error: how often a decision without a person may err.
    """

    alpha: float = 0.1
    sets: str = "lac"
    per_class: bool = False
    target_error: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class Rules:
    """Fitted rules.

    temperature: divides scores. quantiles: float64, (1,) or, one for each class, (C,).
    threshold: calibrated confidence from which a label needs no person; above 1: always a person.
    expected_error: of decisions without a person at this threshold. fitted_on: how
    many images.
    """

    settings: RuleSettings
    temperature: float
    quantiles: Array
    threshold: float
    expected_error: Score
    fitted_on: int

    def probabilities(self, scores: NDArray[Any]) -> Array:
        """Calibrated: (N, C) -> (N, C) float64, rows sum to 1."""
        return softmax(scores, self.temperature)

    def label_sets(self, probabilities: Array, contents: Sequence[str]) -> NDArray[np.bool_]:
        """Which labels are in each image's set: (N, C) bool; contents: sha256 of the N files."""
        coins = coins_of(contents)
        return prediction_sets(probabilities, self.quantiles, self.settings.sets, coins=coins)

    def automatic(self, probabilities: Array) -> NDArray[np.bool_]:
        """Which images need no person: (N,) bool."""
        chosen: NDArray[np.bool_] = probabilities.max(axis=1) >= self.threshold
        return chosen

    def proven_by(self, judged: Judged) -> Rules:
        """Keep the threshold only if one of the cross-judged images was decided without a person.

        Where none was, too few images chose it: nothing shows what it brings, so a person decides.
        """
        if judged.automatic.any():
            return self
        unknown = Score(0.0, Interval(0.0, 1.0), "predictive")
        return replace(self, threshold=NEVER, expected_error=unknown)

    def to_dict(self) -> dict[str, Any]:
        """Return what `model.json` keeps."""
        return {
            "settings": asdict(self.settings),
            "temperature": self.temperature,
            "quantiles": self.quantiles.tolist(),
            "threshold": self.threshold,
            "expected_error": to_json(self.expected_error),
            "fitted_on": self.fitted_on,
        }

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote; KeyError, TypeError or ValueError for anything else."""
        error = facts["expected_error"]
        return cls(
            settings=RuleSettings(**facts["settings"]),
            temperature=float(facts["temperature"]),
            quantiles=np.array(facts["quantiles"], dtype=np.float64),
            threshold=float(facts["threshold"]),
            expected_error=Score(error["value"], Interval(*error["interval"]), error["method"]),
            fitted_on=int(facts["fitted_on"]),
        )


@dataclass(frozen=True)
class HeldOut:
    """H images that the head has not seen, with the truth.

    scores: (H, C) float64 logits. labels, group: (H,) int64. contents: sha256 of the files.
    """

    scores: Scores
    labels: IntArray
    group: IntArray
    contents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.bool_]) -> HeldOut:
        """Return the images where `chosen`, (H,) bool, is true."""
        contents = tuple(one for one, kept in zip(self.contents, chosen, strict=True) if kept)
        return HeldOut(self.scores[chosen], self.labels[chosen], self.group[chosen], contents)


@dataclass(frozen=True)
class Judged:
    """What rules say of H images.

    probabilities: (H, C) float64; label_sets: (H, C) bool; automatic: (H,) bool.
    """

    probabilities: Array
    label_sets: NDArray[np.bool_]
    automatic: NDArray[np.bool_]


def fit_rules(held: HeldOut, settings: RuleSettings) -> Rules:
    """Fit temperature, set quantiles and threshold, all on the same held-out images."""
    temperature = fit_temperature(held.scores, held.labels)
    probabilities = softmax(held.scores, temperature)
    quantiles = conformal_quantiles(
        probabilities,
        held.labels,
        settings.alpha,
        settings.sets,
        per_class=settings.per_class,
        coins=coins_of(held.contents),
    )
    decision = choose_threshold(
        probabilities.max(axis=1),
        probabilities.argmax(axis=1) == held.labels,
        settings.target_error,
        held.group,
        seed=settings.seed,
    )
    return Rules(
        settings=settings,
        temperature=temperature,
        quantiles=quantiles,
        threshold=decision.threshold,
        expected_error=decision.error,
        fitted_on=len(held),
    )


def judge(rules: Rules, scores: Scores, contents: Sequence[str]) -> Judged:
    """Apply the rules to scores (H, C) of images with these contents."""
    probabilities = rules.probabilities(scores)
    return Judged(
        probabilities, rules.label_sets(probabilities, contents), rules.automatic(probabilities)
    )


def cross_judge(held: HeldOut, fold_of: IntArray, settings: RuleSettings) -> Judged:
    """Judge each fold, (H,) integers, by the rules of the other folds; no group may straddle."""
    judged = Judged(
        np.empty(held.scores.shape, dtype=np.float64),
        np.empty(held.scores.shape, dtype=bool),
        np.empty(len(held), dtype=bool),
    )
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        rules = fit_rules(held.take(~inside), settings)
        own = held.take(inside)
        one = judge(rules, own.scores, own.contents)
        judged.probabilities[inside] = one.probabilities
        judged.label_sets[inside] = one.label_sets
        judged.automatic[inside] = one.automatic
    return judged
