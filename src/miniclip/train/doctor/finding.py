"""What the doctor hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, what, why it matters with its figures, and the cure."""

    severity: Severity
    title: str
    explanation: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.title}. {self.explanation} {self.cure}"
