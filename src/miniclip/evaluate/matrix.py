"""Bundles x data sets x tasks: run every cell once, keep what is done, compare the bundles.

A finished cell is a line of results.jsonl. Its key is made of the bundle's fingerprint, the data's
fingerprint, the settings of the task and the version of the protocols, so that a second run, after
a kill or with one more bundle, runs only what is not there. A cell that fails is reported with its
reason and the others go on; it is tried again next time. What a task does is in matrix_tasks.py.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.errors import MiniClipError
from miniclip.evaluate.matrix_cells import (
    PROTOCOL_VERSION,
    Cell,
    figure_text,
    read_cells,
    write_cells,
)
from miniclip.evaluate.matrix_config import BundleEntry, MatrixConfig, Task
from miniclip.evaluate.matrix_data import Vectors, embed_data, open_data
from miniclip.evaluate.matrix_tasks import Outcome, run_task
from miniclip.evaluate.paired import NO_DIFFERENCE, PairedComparison, Place, compare_bundles
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.results import to_json

RESULTS_FILE = "results.jsonl"
_T = TypeVar("_T")


@dataclass(frozen=True)
class MatrixResult:
    """Every cell, in the order of the configuration; kept: how many were done already."""

    cells: tuple[Cell, ...]
    comparisons: tuple[PairedComparison, ...]
    kept: int

    @property
    def failed(self) -> tuple[Cell, ...]:
        """The cells that could not be run."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip evaluate all --json` prints."""
        skipped = [one for cell in self.cells if cell.result for one in cell.result.skipped]
        return {
            "cells": to_json(self.cells),
            "comparisons": to_json(self.comparisons),
            "kept": self.kept,
            "failed": [cell.name for cell in self.failed],
            "skipped": to_json(list(dict.fromkeys(skipped))),
        }

    def __str__(self) -> str:
        lines = []
        for cell in self.cells:
            lines.append(cell.name)
            if cell.result is None:
                lines.append(f"  failed: {cell.error}")
                continue
            width = max(map(len, cell.result.figures))
            lines += [
                f"  {name:<{width}}  {figure_text(name, score)}"
                for name, score in cell.result.figures.items()
            ]
        better = [one for one in self.comparisons if one.verdict != NO_DIFFERENCE]
        if self.comparisons:
            lines.append(
                f"{len(self.comparisons)} paired comparisons, {len(better)} with a difference "
                "(p < 0.05 after Holm)"
            )
        lines += [f"  {one.data} / {one.task} / {one.figure}: {one.verdict}" for one in better]
        return "\n".join(lines)


class Watch(Protocol):
    """Whoever wants to know how far it is."""

    def embedding(self, what: str, total: int) -> Progress:
        """So many images are about to be embedded; returns what takes the number done."""

    def say(self, message: str) -> None:
        """Tell what happens now."""


@dataclass(frozen=True)
class _Failure:
    reason: str


def run_matrix(
    config: MatrixConfig,
    cache: VectorCache,
    open_bundle: Callable[[BundleEntry], Encoder],
    *,
    folder: Path,
    out: Path,
    watch: Watch,
) -> MatrixResult:
    """Run the cells of a matrix that `out`/results.jsonl does not hold; then compare bundles.

    folder: what the paths of the configuration are relative to. out: an existing folder. After
    every cell results.jsonl is written anew, whole or not at all. StoreError if that fails.
    """
    path = out / RESULTS_FILE
    known = read_cells(path)
    matrix = _Matrix(config, cache, open_bundle, folder=folder, watch=watch)
    plan = matrix.plan()
    done = {cell.key: known[cell.key] for cell in plan if cell.key in known}
    cells: list[Cell] = []
    for number, cell in enumerate(plan, start=1):
        if cell.key in done:
            cells.append(replace(done[cell.key], data=cell.data, bundle=cell.bundle))
            continue
        watch.say(f"{number} of {len(plan)}: {cell.name}")
        cells.append(matrix.filled(cell))
        if reason := cells[-1].error:
            watch.say(f"failed: {cell.name}: {reason}")
        write_cells(path, [*cells, *(done[one.key] for one in plan[number:] if one.key in done)])
    write_cells(path, cells)
    comparisons = compare_bundles(_outcomes(cells), seed=config.seed, resamples=config.resamples)
    return MatrixResult(tuple(cells), comparisons, sum(cell.key in done for cell in plan))


class _Matrix:
    """The opened bundles and data sets of a configuration; the reason where one cannot be."""

    def __init__(
        self,
        config: MatrixConfig,
        cache: VectorCache,
        open_bundle: Callable[[BundleEntry], Encoder],
        *,
        folder: Path,
        watch: Watch,
    ) -> None:
        self._config = config
        self._cache = cache
        self._watch = watch
        self._bundles = {one.name: _tried(partial(open_bundle, one)) for one in config.bundles}
        self._data = {
            one.name: _tried(partial(open_data, one, folder, cache)) for one in config.data
        }
        # One table at a time: the cells of a data set and a bundle come one after another.
        self._place = ("", "")
        self._vectors: Vectors | _Failure = _Failure("")

    def plan(self) -> list[Cell]:
        """All cells, none of them run: data by data, bundle by bundle, task by task."""
        return [
            self._planned(data.name, bundle.name, task)
            for data in self._config.data
            for bundle in self._config.bundles
            for task in data.chosen_tasks
        ]

    def _planned(self, data_name: str, bundle: str, task: Task) -> Cell:
        encoder, data = self._bundles[bundle], self._data[data_name]
        for part in (encoder, data):
            if isinstance(part, _Failure):
                return Cell(data_name, bundle, task, error=part.reason)
        assert not isinstance(encoder, _Failure)
        assert not isinstance(data, _Failure)
        settings = asdict(getattr(self._config, task))
        settings |= {"seed": self._config.seed, "resamples": self._config.resamples}
        deciding = [encoder.fingerprint, data.fingerprint, task, settings, PROTOCOL_VERSION]
        key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
        return Cell(data_name, bundle, task, key, settings)

    def filled(self, cell: Cell) -> Cell:
        """Run a cell; whatever goes wrong is its `error`."""
        encoder, data = self._bundles[cell.bundle], self._data[cell.data]
        if isinstance(encoder, _Failure) or isinstance(data, _Failure):
            return cell
        if self._place != (cell.data, cell.bundle):
            self._place = (cell.data, cell.bundle)
            progress = self._watch.embedding(f"{cell.data}, {cell.bundle}", len(data.sources))
            self._vectors = _tried(partial(embed_data, encoder, data, self._cache, progress))
        if isinstance(self._vectors, _Failure):
            return replace(cell, error=self._vectors.reason)
        begun = time.monotonic()
        result = _tried(partial(run_task, cell.task, encoder, data, self._vectors, self._config))
        if isinstance(result, _Failure):
            return replace(cell, error=result.reason)
        return replace(cell, result=result, seconds=time.monotonic() - begun)


def _tried(action: Callable[[], _T]) -> _T | _Failure:
    try:
        return action()
    except MiniClipError as error:
        return _Failure(str(error))
    except Exception as error:  # a matrix runs overnight: a defect in one cell costs that cell
        return _Failure(f"{type(error).__name__}: {error}")


def _outcomes(cells: list[Cell]) -> dict[Place, dict[str, Outcome]]:
    """Gather what came out item by item: by data, task and figure, then by bundle."""
    found: dict[Place, dict[str, Outcome]] = {}
    for cell in cells:
        for figure, outcome in (cell.result.outcomes if cell.result else {}).items():
            found.setdefault((cell.data, cell.task, figure), {})[cell.bundle] = outcome
    return found
