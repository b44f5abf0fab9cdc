"""Where the numbers of a run go: `curves.csv` and TensorBoard, both cut back when a run resumes.

A run that is killed may have logged steps that its last checkpoint does not know; they will be
taken again, so their rows are dropped first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from miniclip.atomic import replacing

CSV_NAME = "curves.csv"
STEP = "step"
Row = dict[str, str]


class CurvesLogger(Logger):  # type: ignore[misc]
    """A Lightning logger that appends a row per call to `curves.csv`, safe against a kill.

    Columns are added as metrics appear; what a row does not tell is left empty.
    """

    def __init__(self, run: Path, *, first_step: int) -> None:
        """first_step: number of steps done; rows of later ones are dropped."""
        super().__init__()
        self._path = run / CSV_NAME
        self._rows = [row for row in read_curves(run) if int(row[STEP]) <= first_step]
        self._columns = list(dict.fromkeys(key for row in self._rows for key in row)) or [STEP]
        self._rewrite()

    @property
    def name(self) -> str:
        """Say what Lightning asks for."""
        return "curves"

    @property
    def version(self) -> str:
        """Say what Lightning asks for."""
        return ""

    @property
    def rows(self) -> list[Row]:
        """All rows so far, texts as in the file."""
        return self._rows

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; numbers are written so that they read back the same."""
        row = {STEP: str(step)} | {key: repr(float(value)) for key, value in metrics.items()}
        self._rows.append(row)
        fresh = [key for key in row if key not in self._columns]
        if fresh:
            self._columns += fresh
            self._rewrite()
            return
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self._columns).writerow(row)

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the recipe is a file of its own."""

    @rank_zero_only  # type: ignore[untyped-decorator]
    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self._rows)
        with replacing(self._path) as stream:
            stream.write(text.getvalue().encode())


def tensorboard(run: Path, *, first_step: int) -> TensorBoardLogger:
    """Return a logger that writes to RUN/tensorboard."""
    return TensorBoardLogger(run, name="", version="tensorboard", purge_step=first_step + 1)


def read_curves(run: Path) -> list[Row]:
    """Read `curves.csv`; a line torn by a kill, and a file that is not there, count as nothing."""
    try:
        text = (run / CSV_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return [
        {key: value for key, value in row.items() if value}
        for row in csv.DictReader(io.StringIO(whole))
        if (row.get(STEP) or "").isdigit()
    ]


def column(rows: list[Row], name: str) -> list[float]:
    """Return the numbers of a column, where there are any."""
    return [float(row[name]) for row in rows if row.get(name)]
