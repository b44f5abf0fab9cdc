"""What was tried, what it costs on the user's data, what it gains here, and what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniclip.metrics import Interval


@dataclass(frozen=True)
class Trial:
    """One variant against the bundle as it is.

    precision: of each tower. size_bytes: of all files. loss: how much of the metric is lost, from
    -1 to 1; interval: its 95 % bootstrap interval over images, in pairs. cosine_min: between the
    vectors of the two over the probes. speedup: how many times as many images a second (texts,
    where the tower of images stays), the median of turns. verdict: in words. Figures are None where
    it did not come that far.
    """

    precision: Mapping[str, str]
    verdict: str
    kept: bool = False
    size_bytes: int | None = None
    loss: float | None = None
    interval: Interval | None = None
    cosine_min: float | None = None
    speedup: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {
            **vars(self),
            "precision": dict(self.precision),
            "interval": self.interval and list(self.interval),
        }

    def __str__(self) -> str:
        name = ", ".join(f"{tower} {precision}" for tower, precision in self.precision.items())
        said = [f"{name}: {self.verdict}"]
        if self.loss is not None and self.interval and self.cosine_min is not None:
            low, high = self.interval
            said.append(f"  loses {self.loss:.2%} [{low:.2%}, {high:.2%}] of the answers")
            said.append(f"  least cosine {self.cosine_min:.5f}")
        if self.speedup is not None:
            said.append(f"  {self.speedup:.2f} times as many a second")
        if self.size_bytes is not None:
            said.append(f"  {self.size_bytes / 1e6:.1f} MB")
        return "\n".join(said)


@dataclass(frozen=True)
class Verdict:
    """All trials. score: the metric of the bundle as it is, over `questions` questions.

    written: the directory of the variant that was kept; None when none was.
    """

    bundle: str
    metric: str
    score: float
    questions: int
    margin: float
    size_bytes: int
    trials: tuple[Trial, ...]
    written: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **vars(self),
            "trials": [trial.to_dict() for trial in self.trials],
            "written": str(self.written) if self.written else None,
        }

    def __str__(self) -> str:
        end = f"wrote {self.written}" if self.written else "kept the bundle as it is: wrote nothing"
        return "\n".join(
            [
                f"{self.bundle}: {self.metric} {self.score:.1%} over {self.questions:,} questions, "
                f"{self.size_bytes / 1e6:.1f} MB; a variant may lose {self.margin:.2%}",
                *map(str, self.trials),
                end,
            ]
        )
