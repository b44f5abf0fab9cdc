"""What a matrix of evaluations can say: which bundles on which data sets at which tasks.

Frozen dataclasses of a TOML file, unknown keys refused. Whether a bundle or a file exists is found
out by those who open it: a cell that cannot be run does not stop the others.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from miniclip.errors import ConfigError
from miniclip.prompts import DEFAULT_TEMPLATES, check_templates
from miniclip.settings import build

Task = Literal["retrieval", "zeroshot", "probe", "fewshot", "judgements"]
Search = Literal["binary", "grid"]
TASKS_OF_KIND: dict[str, tuple[Task, ...]] = {
    "captioned": ("retrieval",),
    "labelled": ("zeroshot", "probe", "fewshot"),
    "judged": ("judgements",),
}


@dataclass(frozen=True)
class BundleEntry:
    """bundle: an installed name, or a directory relative to the file; None for the default."""

    name: str
    bundle: str | None = None


@dataclass(frozen=True)
class DataEntry:
    """One data set, of one of three kinds; paths are relative to the file.

    Captioned: captions, perhaps with images, split, format and columns, as in `read_captions`.
    Labelled: labelled (class folders, train/val/test folders of them, or a table), perhaps with
    labels (what classes are called in prompts), groups and columns, as in `read_labelled_splits`.
    Judged: judgements (a Flickr8k-Expert or -CF file) with captions and images.
    tasks: None for all that the kind allows.
    """

    name: str
    captions: str | None = None
    images: str | None = None
    split: str | None = None
    format: str | None = None
    labelled: str | None = None
    labels: str | None = None
    judgements: str | None = None
    group_regex: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    label_column: str | None = None
    tasks: tuple[Task, ...] | None = None

    def __post_init__(self) -> None:
        if (self.labelled is None) == (self.captions is None):
            raise ConfigError(
                f"the data set {self.name!r} has to say `captions` or `labelled`, one of the two"
            )
        if self.labelled and self.judgements:
            raise ConfigError(f"the judgements of {self.name!r} are of captions; give `captions`")
        for task in self.tasks or ():
            if task not in TASKS_OF_KIND[self.kind]:
                raise ConfigError(
                    f"the data set {self.name!r} is {self.kind} and cannot do {task}; "
                    f"choose among {', '.join(TASKS_OF_KIND[self.kind])}"
                )

    @property
    def kind(self) -> str:
        """One of `TASKS_OF_KIND`."""
        if self.judgements is not None:
            return "judged"
        return "labelled" if self.labelled is not None else "captioned"

    @property
    def chosen_tasks(self) -> tuple[Task, ...]:
        """The tasks to run."""
        return TASKS_OF_KIND[self.kind] if self.tasks is None else self.tasks


@dataclass(frozen=True)
class Retrieval:
    """Nothing to choose: see `evaluate.retrieval` for the protocol."""


@dataclass(frozen=True)
class ZeroShot:
    """templates: sentences with {} for the class."""

    templates: tuple[str, ...] = DEFAULT_TEMPLATES

    def __post_init__(self) -> None:
        check_templates(self.templates)


@dataclass(frozen=True)
class Probe:
    """search: over all 97 values of C, or the parametric binary search of the paper."""

    search: Search = "binary"


@dataclass(frozen=True)
class FewShot:
    """shots: images a class; draws: how often they are drawn anew."""

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 5
    search: Search = "binary"

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1:
            raise ConfigError(f"fewshot.shots is {list(self.shots)}; give numbers of at least 1")
        if self.draws < 2:
            raise ConfigError(f"fewshot.draws is {self.draws}; give at least 2")


@dataclass(frozen=True)
class Judgements:
    """prefix: put before every caption, as CLIPScore does."""

    prefix: str = "A photo depicts "


@dataclass(frozen=True)
class MatrixConfig:
    """seed: of every draw. resamples: of every bootstrap."""

    bundles: tuple[BundleEntry, ...]
    data: tuple[DataEntry, ...]
    seed: int = 0
    resamples: int = 1000
    retrieval: Retrieval = field(default_factory=Retrieval)
    zeroshot: ZeroShot = field(default_factory=ZeroShot)
    probe: Probe = field(default_factory=Probe)
    fewshot: FewShot = field(default_factory=FewShot)
    judgements: Judgements = field(default_factory=Judgements)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.resamples < 1:
            raise ConfigError(
                f"seed is {self.seed} and resamples {self.resamples}; give at least 0 and 1"
            )
        _refuse_repeats("bundles", [entry.name for entry in self.bundles])
        _refuse_repeats("data", [entry.name for entry in self.data])


def read_matrix(path: Path) -> MatrixConfig:
    """Read a TOML file; ConfigError names the key that is unknown, missing or ill-typed."""
    try:
        with path.open("rb") as stream:
            return build(MatrixConfig, tomllib.load(stream))
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _refuse_repeats(key: str, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"{key} is empty; name at least one, such as [[{key}]] name = ...")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{times} of {key} are called {name!r}; give each its own name")
