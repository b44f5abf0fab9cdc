"""The page of `miniclip robustness`: curves against severity, one picture under all, the worst.

Numbers and pictures in, a page out: no figure is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miniclip.errors import ImageError
from miniclip.evaluate.robustness.conditions import CLEAN, Condition, CorruptedImages
from miniclip.evaluate.robustness.results import ModelResult, RobustnessResult, Worst
from miniclip.report import charts
from miniclip.report.page import jpeg_uri, write_page

_CELL = 112  # pixels of a picture on the sheet
_ACROSS = 5  # small charts in a row
_TITLES = {
    "accuracy": "Accuracy, %",
    "ece": "Calibration error (ECE), %",
    "coverage": "Sets that hold the label, %",
    "automatic": "Decided without a person, %",
    "automatic error": "Errors among those, %",
}


@dataclass(frozen=True)
class FigureShown:
    """One figure of all models: its chart, if it can be drawn, and who has it."""

    name: str
    title: str
    chart: str | None
    models: tuple[ModelResult, ...]


@dataclass(frozen=True)
class WorstShown:
    """One picture that went wrong, as it was and as the model saw it; None if it is gone."""

    worst: Worst
    clean: str | None
    corrupted: str | None


def write_robustness_page(
    page: Path, result: RobustnessResult, *, pictures: CorruptedImages, command: str
) -> None:
    """Write the page; StoreError if it fails. pictures: the images, to be corrupted once more."""
    names = dict.fromkeys(
        name for model in result.models for figures in model.figures.values() for name in figures
    )
    write_page(
        page,
        "robustness.html",
        command=command,
        title=f"What {', '.join(model.name for model in result.models)} can bear",
        result=result,
        clean=CLEAN,
        condition=Condition,
        shown=[_figure(result, name) for name in names],
        sheet=_sheet(result, pictures),
        worst=[(model, [_worst(one, pictures) for one in model.worst]) for model in result.models],
        can_draw=charts.can_draw(),
        percent=_percent,
    )


def _figure(result: RobustnessResult, name: str) -> FigureShown:
    models = tuple(
        model for model in result.models if any(name in one for one in model.figures.values())
    )
    title = _TITLES.get(name, f"{name[0].upper()}{name[1:]}, %")
    return FigureShown(name, title, _curves(result, models, name), models)


def _curves(result: RobustnessResult, models: Sequence[ModelResult], name: str) -> str | None:
    """Draw a small chart for each corruption: a line for each model, shaded by its interval."""
    across = min(_ACROSS, len(result.corruptions))
    down = -(-len(result.corruptions) // across)

    def draw(figure: Any) -> None:
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, corruption in zip(grid, result.corruptions, strict=False):
            axes.set_title(corruption.replace("_", " "), fontsize=9)
            axes.grid(alpha=0.3)
            for number, model in enumerate(models):
                conditions = [CLEAN, *(Condition(corruption, s) for s in result.severities)]
                found = [one for one in conditions if name in model.figures[one]]
                scores = [model.figures[one][name] for one in found]
                severities = [one.severity for one in found]
                axes.fill_between(
                    severities,
                    [100 * score.interval.low for score in scores],
                    [100 * score.interval.high for score in scores],
                    color=f"C{number}",
                    alpha=0.15,
                    linewidth=0,
                )
                axes.plot(
                    severities,
                    [100 * score.value for score in scores],
                    color=f"C{number}",
                    marker="o",
                    markersize=2.5,
                    linewidth=1.3,
                    label=model.name,
                )
        for axes in grid[len(result.corruptions) :]:
            axes.set_axis_off()
        grid[0].set_xticks([0, *result.severities])
        grid[0].set_ylim(bottom=0)
        figure.supxlabel("severity, 0 is clean", fontsize=9)
        if len(models) > 1:
            handles, labels = grid[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)

    return charts.png((2.1 * across + 0.4, 1.7 * down + 0.8), draw)


def _sheet(result: RobustnessResult, pictures: CorruptedImages) -> str | None:
    """Lay out the first image: a row for each corruption, clean and at every severity."""
    columns = (0, *result.severities)
    sheet = Image.new("RGB", (_CELL * len(columns), _CELL * len(result.corruptions)), "white")
    for down, corruption in enumerate(result.corruptions):
        for across, severity in enumerate(columns):
            condition = Condition(corruption, severity) if severity else CLEAN
            picture = _picture(pictures, 0, condition)
            if picture is None:
                return None
            picture.thumbnail((_CELL - 2, _CELL - 2))
            sheet.paste(picture, (across * _CELL, down * _CELL))
    return jpeg_uri(sheet)


def _worst(worst: Worst, pictures: CorruptedImages) -> WorstShown:
    def shown(condition: Condition) -> str | None:
        picture = _picture(pictures, worst.row, condition)
        return jpeg_uri(picture) if picture else None

    return WorstShown(worst, shown(CLEAN), shown(worst.condition))


def _picture(pictures: CorruptedImages, row: int, condition: Condition) -> Image.Image | None:
    try:
        return Image.fromarray(np.asarray(pictures.picture(row, condition)))
    except ImageError:
        return None


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"
