"""The reports of `miniclip fit` and `miniclip evaluate classifier`: one page from their results.

It lays out what is known and adds pictures: charts, the worst errors beside the training images
that look most like them, and what the answer hung on. No figure is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder, ImageVectors
from miniclip.errors import ImageError
from miniclip.evaluate.classifier import EvaluationResult
from miniclip.explain.occlusion import occlusion_map
from miniclip.explain.subject import seen_box
from miniclip.images import decode
from miniclip.probe.heads.head import Head, Rows
from miniclip.probe.intervals import Score
from miniclip.probe.results import Figures, FitResult, HeldOutImage, Neighbour
from miniclip.report import charts
from miniclip.report.overlay import blended
from miniclip.report.page import THUMBNAIL_SIDE, jpeg_uri, write_page

WORST = 24  # errors shown, the most confident first
IMAGES_PER_MAP = 400  # a map costs as much as 37 images; it may not dominate a fit
FEWEST_MAPS, MOST_MAPS = 3, 6  # a small fit is a matter of seconds, with three maps too
SHOWN_ROWS = 20


@dataclass(frozen=True)
class ErrorShown:
    """A wrong answer with the evidence; heat: data URI of what the answer hung on, if drawn."""

    image: HeldOutImage
    path: Path | None
    nearest: tuple[tuple[Neighbour, Path | None], ...]
    heat: str | None


@dataclass(frozen=True)
class FiguresShown:
    """One set of figures with its charts; the charts are None without matplotlib."""

    title: str
    figures: Figures
    reliability: str | None
    risk_coverage: str | None


def write_fit_report(
    page: Path,
    result: FitResult,
    *,
    files: Mapping[str, Path],
    encoder: Encoder,
    heads: Sequence[Head],
    command: str,
) -> None:
    """Write the page of a fit; StoreError if it fails.

    files: where the images are, by the names of the result; one that cannot be read any more is
    shown by name alone. encoder, heads: asked for the maps of the worst errors; of each fold, the
    head that gave its answers, for the finished one has learnt from these very images.
    """
    errors = _errors_shown(result, files, encoder, heads)
    shown = [shown_figures("Held-out images", result.figures)]
    if result.test:
        shown.append(shown_figures("Test images", result.test))
    write_page(
        page,
        "classifier.html",
        command=command,
        title=f"Classifier of {result.data.name}",
        result=result,
        classes=result.classes,
        shown=shown,
        errors=errors,
        mapped=sum(error.heat is not None for error in errors),
        wrong=sum(not image.correct for image in result.held_out),
        said={image.name: image for image in result.held_out},
        curves=_curves(result),
        files=files,
        rows=SHOWN_ROWS,
        settings=_in_words(result.settings),
        can_draw=charts.can_draw(),
        percent=percent,
    )


def write_evaluation_report(
    page: Path, result: EvaluationResult, *, files: Mapping[str, Path], command: str
) -> None:
    """Write the page of an evaluation on new images; StoreError if it fails."""
    title = "New images" if result.repeats.left else "Repeats of training images"
    shown = [shown_figures(title, result.figures)]
    if result.recalibrated:
        title = f"The others, recalibrated on {result.recalibrated_on} of them"
        shown.append(shown_figures(title, result.recalibrated))
    write_page(
        page,
        "evaluation.html",
        command=command,
        title=f"The classifier on {result.name}",
        result=result,
        classes=result.classes,
        shown=shown,
        errors=[
            ErrorShown(image, files.get(image.name), (), None)
            for image in worst_errors(result.held_out)
        ],
        wrong=sum(not image.correct for image in result.held_out),
        can_draw=charts.can_draw(),
        percent=percent,
    )


def worst_errors(held_out: Sequence[HeldOutImage]) -> list[HeldOutImage]:
    """Return the most confident wrong answers, at most `WORST`."""
    wrong = [image for image in held_out if not image.correct]
    return sorted(wrong, key=lambda image: (-image.probability, image.name))[:WORST]


def shown_figures(title: str, figures: Figures) -> FiguresShown:
    """Draw the charts of a set of figures."""
    return FiguresShown(
        title,
        figures,
        charts.reliability(figures.calibration.bins),
        charts.risk_coverage(figures.abstention),
    )


def percent(score: Score | float | None, digits: int = 1) -> str:
    """Write a share in percent, with its interval if it has one; a dash for None."""
    if score is None:
        return "–"
    if isinstance(score, Score):
        low, high = score.interval
        return f"{percent(score.value, digits)} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
    return f"{100 * score:.{digits}f} %"


def _errors_shown(
    result: FitResult, files: Mapping[str, Path], encoder: Encoder, heads: Sequence[Head]
) -> list[ErrorShown]:
    maps = min(MOST_MAPS, max(FEWEST_MAPS, len(result.held_out) // IMAGES_PER_MAP))
    errors = []
    for number, image in enumerate(worst_errors(result.held_out)):
        path, heat = files.get(image.name), None
        if path and number < maps:
            answer = result.classes.index(image.predicted)
            heat = _heat(encoder, heads[image.fold], answer, path)
        nearest = tuple((one, files.get(one.name)) for one in result.nearest[image.name])
        errors.append(ErrorShown(image, path, nearest, heat))
    return errors


def _in_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that say something: lists with commas, nothing that is off."""
    said = {name.replace("_", " "): value for name, value in settings.items()}
    return {
        name: "yes" if value is True else ", ".join(value) if isinstance(value, tuple) else value
        for name, value in said.items()
        if value is not None and value is not False and value != ()
    }


def _curves(result: FitResult) -> str | None:
    if result.presets:
        return charts.learning_curves({run.name: run.curves for run in result.presets.runs})
    return charts.learning_curves({"": result.curves}) if result.curves else None


def _heat(encoder: Encoder, head: Head, answer: int, path: Path) -> str | None:
    """Draw what the head's answer hangs on; None when the image cannot be read any more."""

    def logit(vectors: ImageVectors) -> FloatArray:
        scores = head.scores(Rows(vectors.features, vectors.embeddings))
        return scores[:, answer].astype(np.float32)

    try:
        picture = decode(path, at_least=encoder.image_spec.enough())
    except ImageError:
        return None
    drops = occlusion_map(encoder, picture, logit)
    box = seen_box(picture.size, encoder.image_spec)
    return jpeg_uri(blended(picture, drops, box=box, side=THUMBNAIL_SIDE))
