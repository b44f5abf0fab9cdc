"""The pages of `miniclip audit`, each from one result. No figure is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miniclip.audit.association import Association, NamedSet
from miniclip.audit.groups import ColumnAudit, GroupsAudit
from miniclip.audit.identity import KINDS
from miniclip.audit.provenance import DataAudit
from miniclip.report import charts
from miniclip.report.classifier import percent
from miniclip.report.page import write_page

SHOWN_ROWS = 100
_MOST_DRAWN = 20


def write_groups_page(
    page: Path, result: GroupsAudit, *, files: Mapping[str, Path], command: str
) -> None:
    """Write the page of an audit by subgroup; StoreError if it fails.

    files: where the images are, by the names of the result; one that is gone is left out.
    """
    write_page(
        page,
        "audit_groups.html",
        command=command,
        title=f"Subgroups of {result.data}",
        result=result,
        pictures=[(column, _forest(column)) for column in result.columns],
        files=files,
        can_draw=charts.can_draw(),
        percent=percent,
    )


def write_data_page(page: Path, result: DataAudit, *, command: str) -> None:
    """Write the page of an audit of a data set, without thumbnails; StoreError if it fails."""
    write_page(
        page,
        "audit_data.html",
        command=command,
        title=f"What {result.name} holds",
        result=result,
        kinds=KINDS,
        rows=SHOWN_ROWS,
    )


def write_bias_page(
    page: Path, result: Association, *, sets: Sequence[NamedSet], bundle: str, command: str
) -> None:
    """Write the page of an association test; StoreError if it fails."""
    write_page(
        page,
        "audit_bias.html",
        command=command,
        title=f"{result.x} and {result.y}, against {result.a} and {result.b}",
        result=result,
        sets=sets,
        bundle=bundle,
        targets=sorted(result.per_target.items(), key=lambda item: -item[1]),
        widest=max(map(abs, result.per_target.values())) or 1.0,
    )


def _forest(column: ColumnAudit) -> str | None:
    """Draw the accuracy of each subgroup with its interval, largest on top."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        shown = column.subgroups[:_MOST_DRAWN][::-1]
        for place, one in enumerate(shown):
            low, high = one.accuracy.interval
            colour = "C0" if one.compared else "grey"
            axes.plot((100 * low, 100 * high), (place, place), color=colour, linewidth=2)
            axes.plot(100 * one.accuracy.value, place, "o", color=colour)
        axes.set_yticks(range(len(shown)), [one.name[:30].replace("$", r"\$") for one in shown])
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x", alpha=0.3)

    height = 1.2 + 0.32 * min(len(column.subgroups), _MOST_DRAWN)
    return charts.png((6.4, height), draw)
