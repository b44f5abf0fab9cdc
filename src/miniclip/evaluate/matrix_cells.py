"""A cell of a matrix and its line in results.jsonl. It runs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from miniclip.atomic import replacing
from miniclip.embed import Skipped
from miniclip.evaluate.matrix_config import Task
from miniclip.evaluate.matrix_tasks import Hits, Outcome, Scores, TaskResult
from miniclip.metrics import Interval
from miniclip.probe.intervals import Score
from miniclip.probe.results import to_json

PROTOCOL_VERSION = 1  # goes up when a figure of an unchanged cell may change; part of every key
_KINDS: dict[str, Callable[..., Outcome]] = {"hits": Hits, "scores": Scores}


@dataclass(frozen=True)
class Cell:
    """One bundle on one data set at one task. error: why it failed, None if it did not.

    key: hex digest of what decides the figures; "" where that could not be found out. settings: of
    the task. seconds: of the task, without embedding.
    """

    data: str
    bundle: str
    task: Task
    key: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: TaskResult | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        """For people: data, task and bundle."""
        return f"{self.data} / {self.task} / {self.bundle}"

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints of it: a line of results.jsonl without its outcomes."""
        told = {
            "data": self.data,
            "bundle": self.bundle,
            "task": self.task,
            "key": self.key,
            "version": PROTOCOL_VERSION,
            "settings": to_json(self.settings),
            "seconds": round(self.seconds, 2),
            "error": self.error,
        }
        if self.result is None:
            return told
        return told | {
            "figures": to_json(self.result.figures),
            "protocol": self.result.protocol,
            "facts": to_json(self.result.facts),
            "skipped": to_json(self.result.skipped),
        }


def figure_text(name: str, score: Score) -> str:
    """Write a figure with its interval: shares in percent, taus and mrr as they are, ranks plain.

    "–" where the figure does not exist, such as a tau of constant scores.
    """
    if isnan(score.value):
        return "–"
    numbers = (score.value, *score.interval)
    if "median_rank" in name:
        value, low, high = (f"{number:g}" for number in numbers)
    elif "tau" in name or "mrr" in name:
        value, low, high = (f"{number:.3f}" for number in numbers)
    else:
        value, low, high = (f"{100 * number:.1f}" for number in numbers)
        value += " %"
    return f"{value} [{low}, {high}]"


def write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """Write results.jsonl, whole or not at all; StoreError if it fails."""
    with replacing(path) as stream:
        for cell in cells:
            line = cell.to_dict()
            if cell.result is not None:
                outcomes = cell.result.outcomes
                line["outcomes"] = {name: _told(one) for name, one in outcomes.items()}
            stream.write(json.dumps(line, allow_nan=False).encode() + b"\n")


def read_cells(path: Path) -> dict[str, Cell]:
    """Read the finished cells of a results.jsonl by key; what is no such line is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    cells: dict[str, Cell] = {}
    for line in lines:
        try:
            cell = _cell(json.loads(line))
        except (AttributeError, KeyError, TypeError, ValueError):  # a failed cell, or not our line
            continue
        cells[cell.key] = cell
    return cells


def _cell(line: Mapping[str, Any]) -> Cell:
    return Cell(
        data=line["data"],
        bundle=line["bundle"],
        task=line["task"],
        key=line["key"],
        settings=line["settings"],
        result=TaskResult(
            figures={name: _score(told) for name, told in line["figures"].items()},
            outcomes={name: _outcome(told) for name, told in line["outcomes"].items()},
            protocol=line["protocol"],
            facts=line["facts"],
            skipped=tuple(Skipped(one["path"], one["reason"]) for one in line["skipped"]),
        ),
        seconds=line["seconds"],
    )


def _score(told: Mapping[str, Any]) -> Score:
    value, low, high = (nan if one is None else one for one in (told["value"], *told["interval"]))
    return Score(value, Interval(low, high), told["method"])


def _told(outcome: Outcome) -> dict[str, Any]:
    return {"kind": "hits" if isinstance(outcome, Hits) else "scores", **asdict(outcome)}


def _outcome(told: Mapping[str, Any]) -> Outcome:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in told.items()
        if name != "kind"
    }
    return _KINDS[told["kind"]](**values)
