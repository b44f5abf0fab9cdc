"""What a robustness run found: named, frozen, printable. It computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from miniclip.embed import Skipped
from miniclip.evaluate.robustness.conditions import CLEAN, Condition
from miniclip.evaluate.robustness.corruption_error import CorruptionErrors
from miniclip.probe.comparison import Comparison
from miniclip.probe.intervals import Score
from miniclip.probe.results import to_json


@dataclass(frozen=True)
class Worst:
    """A unit that was right when clean and is badly wrong now.

    row: of its image. truth, said: in words. wrongness: the probability of the wrong answer, or how
    many images stand before the right one.
    """

    name: str
    row: int
    condition: Condition
    truth: str
    said: str
    wrongness: float

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "path": self.name,
            "corruption": self.condition.corruption,
            "severity": self.condition.severity,
            "truth": self.truth,
            "said": self.said,
            "wrongness": self.wrongness,
        }


@dataclass(frozen=True)
class ModelResult:
    """One contestant. figures: by condition, the clean one first, and by name."""

    name: str
    bundle: str
    judged_by: str
    figures: Mapping[Condition, Mapping[str, Score]]
    errors: CorruptionErrors
    worst: tuple[Worst, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        conditions = [
            {"corruption": one.corruption, "severity": one.severity, **_flat(figures)}
            for one, figures in self.figures.items()
            if one != CLEAN
        ]
        return {
            "name": self.name,
            "bundle": self.bundle,
            "judged_by": self.judged_by,
            "clean": _flat(self.figures[CLEAN]),
            "conditions": conditions,
            "mean_error": to_json(self.errors.mean),
            "corruption_error": {
                name: {
                    "error": to_json(error),
                    "ce": to_json(self.errors.ce[name]),
                    "relative_ce": to_json(self.errors.rce[name]),
                }
                for name, error in self.errors.error.items()
            },
            "mce": to_json(self.errors.mce),
            "relative_mce": to_json(self.errors.relative_mce),
            "worst": [one.to_dict() for one in self.worst],
        }


@dataclass(frozen=True)
class Paired:
    """One contestant against the baseline, on the same images.

    overall: all conditions together, images as units. by_corruption: all severities together.
    false_discovery: the p of each corruption after Benjamini and Hochberg (1995): of those below
    0.05 at most one in twenty is expected to be chance.
    """

    overall: Comparison
    by_corruption: Mapping[str, Comparison]
    false_discovery: Mapping[str, float]


@dataclass(frozen=True)
class RobustnessResult:
    """What a run found. headline: the figure that stands for all; baseline: a contestant's name."""

    data: str
    protocol: str
    headline: str
    images: int
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    baseline: str | None
    models: tuple[ModelResult, ...]
    paired: tuple[Paired, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    computed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip robustness --json` prints."""
        whole = {
            name: to_json(getattr(self, name))
            for name in (
                "data", "protocol", "headline", "images", "corruptions", "severities", "baseline",
            )
        }  # fmt: skip
        return whole | {
            "models": [model.to_dict() for model in self.models],
            "comparisons": to_json(self.paired),
            "computed": self.computed,
            "warnings": list(self.warnings),
            "skipped": [entry.to_dict() for entry in self.skipped],
        }

    def __str__(self) -> str:
        return "\n".join(
            [self.protocol, *(line for model in self.models for line in self._lines(model))]
            + [_verdict(one) for one in self.paired]
        )

    def _lines(self, model: ModelResult) -> list[str]:
        def percent(condition: Condition) -> str:
            return f"{100 * model.figures[condition][self.headline].value:6.1f}"

        width = max(map(len, self.corruptions))
        errors = model.errors
        lines = ["", f"{model.name}: {self.headline} in %, clean{percent(CLEAN)}"]
        head = "".join(f"{severity:6d}" for severity in self.severities)
        lines.append(f"  {'severity':<{width}}{head}   mean error")
        for name in self.corruptions:
            cells = "".join(percent(Condition(name, severity)) for severity in self.severities)
            lines.append(f"  {name:<{width}}{cells}   {errors.error[name]}")
        lines.append(f"  mean corruption error {errors.mean}")
        if errors.mce and self.baseline != model.name:
            relative = f"{errors.relative_mce.value:.3f}" if errors.relative_mce else "none"
            low, high = errors.mce.interval
            lines.append(
                f"  beside {self.baseline}: mCE {errors.mce.value:.3f} [{low:.3f}, {high:.3f}], "
                f"relative mCE {relative}"
            )
        return lines


def _verdict(paired: Paired) -> str:
    one = paired.overall
    found = [name for name, p in paired.false_discovery.items() if p < 0.05]
    differ = f"; they differ under {', '.join(found)}" if found else ""
    return (
        f"\n{one.first} against {one.second}, all conditions: {one.difference:+.2%} "
        f"[{one.interval.low:+.2%}, {one.interval.high:+.2%}], p {one.p:.2g}: {one.verdict}{differ}"
    )


def _flat(figures: Mapping[str, Score]) -> dict[str, Any]:
    """Figures by name, with underscores, and their intervals under "interval"."""
    names = {name: name.replace(" ", "_") for name in figures}
    return {
        **{names[name]: one.value for name, one in figures.items()},
        "interval": {names[name]: list(one.interval) for name, one in figures.items()},
    }
