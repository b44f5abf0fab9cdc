"""The choices of a fit, checked before any work. What they do is written where they are used."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields

from miniclip.errors import ConfigError
from miniclip.probe.conformal import METHODS
from miniclip.probe.learn import DEFAULT_HEAD, HeadChoice
from miniclip.probe.rules import RuleSettings
from miniclip.views import View, named_views

_OPTIONS = {"overrides": "set", "mlp_overrides": "set", "rivals": "compare"}
_PREFIX = {"mlp_overrides": "mlp."}


@dataclass(frozen=True)
class FitSettings:
    """All choices of a fit; see the options of `miniclip fit`.

    overrides: "key=value" for the head; mlp_overrides: for the presets that are compared. rivals:
    other heads to be compared on the same folds.
    """

    head: str = DEFAULT_HEAD
    overrides: tuple[str, ...] = ()
    preset: str | None = None
    compare_presets: bool = False
    mlp_overrides: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    views: str = "plain"
    folds: int = 5
    seed: int = 0
    target_error: float = 0.01
    alpha: float = 0.1
    sets: str = "lac"
    per_class_sets: bool = False

    def __post_init__(self) -> None:
        """Refuse unusable values before any work."""
        named_views(self.views)
        for choice in (self.choice, *map(HeadChoice, self.rivals)):
            choice.check()
        if self.mlp_overrides and not self.compare_presets:
            raise ConfigError(
                f"the setting mlp.{self.mlp_overrides[0]} has no effect without an MLP that takes "
                "it; give --head mlp or --compare-presets with it"
            )
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha is {self.alpha}; give a share above 0 and below 1")
        if not 0 < self.target_error < 1:
            raise ConfigError(f"target_error is {self.target_error}; give a share such as 0.01")
        if self.sets not in METHODS:
            raise ConfigError(f"sets is {self.sets!r}; choose one of {', '.join(METHODS)}")

    @property
    def view_list(self) -> tuple[View, ...]:
        """The views, the plain one first."""
        return named_views(self.views)

    @property
    def choice(self) -> HeadChoice:
        """Which head, and how."""
        return HeadChoice(self.head, self.overrides, self.preset, self.seed)

    @property
    def rules(self) -> RuleSettings:
        """What the rules aim at."""
        return RuleSettings(
            self.alpha, self.sets, self.per_class_sets, self.target_error, self.seed
        )

    def command(self, data: str, more: Sequence[str] = ()) -> str:
        """Return the command that makes the same model again: what is not usual, and `more`."""
        words = ["miniclip", "fit", data]
        for entry in fields(self):
            value, option = getattr(self, entry.name), _OPTIONS.get(entry.name, entry.name)
            if value == entry.default:
                continue
            flag = "--" + option.replace("_", "-")
            for each in value if isinstance(value, tuple) else (value,):
                words += [flag] if each is True else [flag, f"{_PREFIX.get(entry.name, '')}{each}"]
        return shlex.join([*words, *more, "-o", "MODEL"])
