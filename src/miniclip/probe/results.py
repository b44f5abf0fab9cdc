"""What a fit found out, as frozen values; `to_dict` is what `--json` prints. It computes nothing.

Fractions run from 0 to 1. A `Score` is a value with its 95 % interval. All figures of `FitResult`
are held out: no image is judged by a head, a temperature or a threshold that has seen it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from miniclip.embed import Skipped
from miniclip.metrics import Interval
from miniclip.probe.calibration import ReliabilityBin
from miniclip.probe.comparison import Comparison
from miniclip.probe.duplicates import RepeatPair
from miniclip.probe.scores import ClassifierScores, Score
from miniclip.probe.shortcuts import Shortcut


@dataclass(frozen=True)
class DataSummary:
    """The labelled images that were used.

    images: by class, held-out test images not counted; parts: how many images each of "train",
    "val" and "test" has. fingerprint: sha256 over the names, contents and labels of all of them.
    """

    name: str
    images: Mapping[str, int]
    parts: Mapping[str, int]
    groups: int
    fingerprint: str


@dataclass(frozen=True)
class HeadSummary:
    """Which head on which features: of a bundle (name and fingerprint), through which views."""

    kind: str
    settings: Mapping[str, Any]
    views: tuple[str, ...]
    bundle: str
    bundle_fingerprint: str


@dataclass(frozen=True)
class Calibration:
    """temperature: of the model; `before` it: ECE, Brier and NLL without any temperature."""

    temperature: float
    ece_before: float
    brier_before: float
    nll_before: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class ConformalResult:
    """Prediction sets at miscoverage `alpha`.

    coverage: share of held-out images whose set holds the true label. band: where 99 % of such
    figures fall when the sets are right (exact beta-binomial). set_size: mean number of labels;
    single: share of sets with exactly one.
    """

    method: str
    alpha: float
    per_class: bool
    coverage: Score
    band: Interval
    set_size: float
    single: float


@dataclass(frozen=True)
class CurvePoint:
    """One point of a risk-coverage curve: decided by the machine, and wrong among those."""

    coverage: float
    error: float
    threshold: float


@dataclass(frozen=True)
class AbstentionResult:
    """What is decided without a person, at a threshold on the calibrated confidence.

    automatic, error: what came out on the images, each judged with a threshold that others chose.
    expected_error: promised when the threshold was chosen, with the interval in which the error of
    as many new images falls. aurc: area under the risk-coverage curve (Geifman and El-Yaniv 2017),
    lower is better.
    """

    target_error: float
    threshold: float
    automatic: Score
    error: Score
    expected_error: Score
    aurc: float
    curve: tuple[CurvePoint, ...]

    def promise(self) -> str:
        """Say what to expect of new images: "auto 84 %, to a person 16 %, expected errors ..."."""
        return self._said("expected errors", self.expected_error)

    def outcome(self) -> str:
        """Say what came out on these images."""
        return self._said("errors", self.error)

    def _said(self, word: str, error: Score) -> str:
        if self.threshold > 1:
            return "auto 0 %, to a person 100 %: no threshold keeps the error that was asked for"
        if not self.automatic.value:
            return (
                "auto 0 %, to a person 100 %: none of these images reaches the confidence of "
                f"{self.threshold:.1%} that is needed"
            )
        share = round(100 * self.automatic.value)
        low, high = error.interval
        return (
            f"auto {share} %, to a person {100 - share} %, "
            f"{word} {100 * error.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        )


@dataclass(frozen=True)
class Figures:
    """How good a classifier is on one set of images, and its decisions on them."""

    scores: ClassifierScores
    calibration: Calibration
    conformal: ConformalResult
    abstention: AbstentionResult

    def to_dict(self) -> dict[str, Any]:
        """Return accuracy, macro_f1, ece and coverage first, then the rest."""
        scores = to_json(self.scores)
        return {
            **{name: scores[name] for name in ("accuracy", "macro_f1", "ece")},
            "coverage": to_json(self.conformal.coverage),
            **scores,
            **{
                name: to_json(getattr(self, name))
                for name in ("calibration", "conformal", "abstention")
            },
        }


@dataclass(frozen=True)
class GateResult:
    """The gate against images of another kind; refused: share of held-out images it turns away."""

    kind: str
    refused: Score


@dataclass(frozen=True)
class LabelConflict:
    """One picture under two labels."""

    first: str
    second: str
    first_label: str
    second_label: str


@dataclass(frozen=True)
class RepeatsResult:
    """Repeated pictures: `exact` and `near` count files beyond the first of each picture.

    across_parts: images of val or test that repeat one of an earlier part.
    """

    exact: int
    near: int
    across_parts: int
    pairs: tuple[RepeatPair, ...]
    conflicts: tuple[LabelConflict, ...]


@dataclass(frozen=True)
class NaiveResult:
    """The same head when repeats may straddle the split: too good to be true where they do."""

    accuracy: Score
    macro_f1: Score


@dataclass(frozen=True)
class LabelDoubt:
    """A label that the model disputes; confidence: in what it says instead, held out."""

    name: str
    label: str
    predicted: str
    label_probability: float
    predicted_probability: float


@dataclass(frozen=True)
class Curves:
    """Loss and accuracy after each of E epochs; each a tuple of E numbers."""

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]

    @property
    def rise(self) -> float:
        """How far the validation loss ends above its lowest point: what over-fitting costs."""
        return self.validation_loss[-1] - min(self.validation_loss)


@dataclass(frozen=True)
class PresetRun:
    """One training with its settings; scores: on held-out images."""

    name: str
    settings: Mapping[str, Any]
    accuracy: Score
    macro_f1: Score
    curves: Curves
    rise: float


@dataclass(frozen=True)
class PresetComparison:
    """Two presets side by side.

    ratio_of_rises: how many times further the first one's validation loss climbs back than the
    second's; None when the second's does not climb.
    """

    runs: tuple[PresetRun, ...]
    ratio_of_rises: float | None
    comparison: Comparison


@dataclass(frozen=True)
class Rival:
    """Another head on the same held-out images, and whether the chosen one is better."""

    name: str
    accuracy: Score
    macro_f1: Score
    comparison: Comparison


@dataclass(frozen=True)
class HeldOutImage:
    """What was said of one image by a head that has not seen it, and by rules of other images.

    probability: calibrated. label_set: the conformal set, in the order of the classes. automatic:
    whether the label needed no person.
    """

    name: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    fold: int
    label_set: tuple[str, ...] = ()
    automatic: bool = False

    @property
    def correct(self) -> bool:
        """Whether the label came out."""
        return self.label == self.predicted


class Neighbour(NamedTuple):
    """A training image near another image; cosine: of their features."""

    name: str
    cosine: float


@dataclass(frozen=True)
class FitResult:
    """Everything that `miniclip fit` has to say.

    figures: of the held-out images, with repeats kept on one side; naive: the same with repeats
    spread at random, None where that was not measured. test: of the test part, if there is one,
    without images that repeat train or val; test_naive: with them. rivals: other heads on the same
    held-out images. held_out: every judged image. nearest: for the wrong ones, the training images
    that look most alike. reproduce: the command. features_computed, seconds: about this run alone,
    so they are in the JSON and not in the model directory.
    """

    data: DataSummary
    head: HeadSummary
    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    protocol: str
    figures: Figures
    naive: NaiveResult | None
    gate: GateResult
    repeats: RepeatsResult
    shortcuts: tuple[Shortcut, ...]
    doubts: tuple[LabelDoubt, ...]
    next_to_label: tuple[str, ...]
    held_out: tuple[HeldOutImage, ...] = field(repr=False)
    nearest: Mapping[str, tuple[Neighbour, ...]] = field(repr=False)
    presets: PresetComparison | None = None
    curves: Curves | None = None
    rivals: tuple[Rival, ...] = ()
    test: Figures | None = None
    test_naive: Figures | None = None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    reproduce: str = ""
    features_computed: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def findings(self) -> dict[str, Any]:
        """Return what is the same for every run of the same data and settings: `metrics.json`."""
        rest = (
            "classes", "naive", "test", "test_naive", "gate", "repeats", "shortcuts", "doubts",
            "next_to_label", "presets", "rivals", "curves", "data", "head", "settings",
            "protocol", "warnings", "skipped", "reproduce",
        )  # fmt: skip
        return self.figures.to_dict() | {name: to_json(getattr(self, name)) for name in rest}

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip fit --json` prints."""
        return {
            **self.findings(),
            "features_computed": self.features_computed,
            "seconds": dict(self.seconds),
        }


def to_json(value: Any) -> Any:
    """Turn a result into what JSON can hold: records by name, arrays as lists, no NaN (None)."""
    if isinstance(value, Interval):
        return [to_json(end) for end in value]
    if hasattr(value, "to_dict"):
        return to_json(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value
