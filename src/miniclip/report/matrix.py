"""The matrix of evaluations as Markdown and as one page: a table for each data set and task.

It lays out what `evaluate.matrix` found and draws the few-shot curves; no figure is computed here.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniclip.atomic import replacing
from miniclip.embed import Skipped
from miniclip.evaluate.matrix import MatrixResult
from miniclip.evaluate.matrix_cells import Cell, figure_text
from miniclip.evaluate.paired import PairedComparison
from miniclip.probe.intervals import Score
from miniclip.report.charts import png
from miniclip.report.page import write_page

MARKDOWN_FILE, PAGE_FILE = "results.md", "results.html"
SHOWN_SKIPPED = 20
_SHOTS = "accuracy@"


@dataclass(frozen=True)
class Table:
    """One data set at one task. rows: a figure's name and its text for each bundle.

    chart: data URI of the few-shot curves, or None.
    """

    data: str
    task: str
    bundles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    protocols: tuple[str, ...]
    comparisons: tuple[PairedComparison, ...]
    failed: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    chart: str | None

    @property
    def title(self) -> str:
        """Data set and task."""
        return f"{self.data}: {self.task}"


def write_matrix_report(out: Path, result: MatrixResult, *, command: str) -> None:
    """Write results.md and results.html into a folder; StoreError if it fails."""
    tables = _tables(result)
    with replacing(out / MARKDOWN_FILE) as stream:
        stream.write(_markdown(tables, command).encode("utf-8", errors="backslashreplace"))
    write_page(
        out / PAGE_FILE,
        "matrix.html",
        command=command,
        title="Evaluations",
        tables=tables,
        cells=len(result.cells),
        failed=result.failed,
        comparisons=len(result.comparisons),
        points=_points,
        shown_skipped=SHOWN_SKIPPED,
    )


def _tables(result: MatrixResult) -> list[Table]:
    by_place: dict[tuple[str, str], list[Cell]] = {}
    for cell in result.cells:
        by_place.setdefault((cell.data, cell.task), []).append(cell)
    return [
        _table(
            cells,
            [one for one in result.comparisons if (one.data, one.task) == place],
        )
        for place, cells in by_place.items()
    ]


def _table(cells: Sequence[Cell], comparisons: Sequence[PairedComparison]) -> Table:
    figures = {cell.bundle: cell.result.figures for cell in cells if cell.result}
    names = dict.fromkeys(name for own in figures.values() for name in own)
    results = [cell.result for cell in cells if cell.result]
    return Table(
        data=cells[0].data,
        task=cells[0].task,
        bundles=tuple(figures),
        rows=tuple(
            (
                name,
                tuple(
                    figure_text(name, own[name]) if name in own else "–" for own in figures.values()
                ),
            )
            for name in names
        ),
        protocols=tuple(dict.fromkeys(one.protocol for one in results)),
        comparisons=tuple(comparisons),
        failed=tuple(cell for cell in cells if cell.error is not None),
        skipped=tuple(dict.fromkeys(one for result in results for one in result.skipped)),
        chart=few_shot_curves(figures) if cells[0].task == "fewshot" and figures else None,
    )


def few_shot_curves(figures: Mapping[str, Mapping[str, Score]]) -> str | None:
    """Accuracy against images a class, a line for each bundle, as a data URI; None undrawn."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, own in figures.items():
            shots = [int(key.removeprefix(_SHOTS)) for key in own]
            values = [100 * score.value for score in own.values()]
            low = [100 * score.interval.low for score in own.values()]
            high = [100 * score.interval.high for score in own.values()]
            (line,) = axes.plot(shots, values, marker="o", markersize=4, label=name)
            axes.fill_between(shots, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            axes.set_xticks(shots, [str(shot) for shot in shots])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
        axes.set(xlabel="images a class", ylabel="accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return png((5.6, 3.8), draw)


def _markdown(tables: Sequence[Table], command: str) -> str:
    lines = ["# Evaluations", "", "In brackets: 95 % intervals.", ""]
    for table in tables:
        lines += [f"## {_plain(table.title)}", ""]
        if table.rows:
            lines += _rows(["", *table.bundles], [(name, *told) for name, told in table.rows])
        lines += [_plain(protocol) + "." for protocol in table.protocols]
        lines += [
            f"- failed: {_plain(cell.bundle)}: {_plain(cell.error or '')}" for cell in table.failed
        ]
        if table.skipped:
            lines += [f"{len(table.skipped)} left out; results.jsonl names them."]
        if table.comparisons:
            lines += ["", "Paired comparisons on the same items; p after Holm's correction:", ""]
            lines += _rows(
                ["figure", "bundles", "difference", "p", "verdict"],
                [
                    (
                        one.figure,
                        f"{one.first} - {one.second}",
                        _points(one),
                        f"{one.p_adjusted:.2g}",
                        one.verdict,
                    )
                    for one in table.comparisons
                ],
            )
        lines.append("")
    return "\n".join([*lines, f"Made by `{command}`", ""])


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(_plain, line)) + " |" for line in lines] + [""]


def _plain(text: str) -> str:
    """Let a name or reason be text: no markup, no cell border, one line."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _points(one: PairedComparison) -> str:
    """Write a difference: in percentage points, of taus as it is."""
    factor, digits = (1, 3) if "tau" in one.figure else (100, 1)
    value, low, high = (
        f"{factor * number:+.{digits}f}" for number in (one.difference, *one.interval)
    )
    return f"{value} [{low}, {high}]"
