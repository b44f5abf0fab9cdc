"""The page of `miniclip explain`: the map in both views, what it is worth, and the words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miniclip.explain.credibility import MEASURES, Credibility
from miniclip.explain.explanation import Explanation
from miniclip.explain.question import Question
from miniclip.explain.randomisation import Randomisation
from miniclip.report import charts
from miniclip.report.overlay import View, blended
from miniclip.report.page import jpeg_uri, write_page

_SIDE = 560  # pixels of the longer side of a picture


def write_explain_page(
    path: Path,
    image: Image.Image,
    question: Question,
    found: Explanation,
    checked: Randomisation | None,
    *,
    name: str,
    command: str,
) -> None:
    """Write the page; StoreError if it fails. name: of the image file."""
    plain = image.copy()
    plain.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    views: tuple[View, ...] = ("smooth", "patches")
    write_page(
        path,
        "explain.html",
        command=command,
        title=f"{name}: {question.title}",
        name=name,
        picture=jpeg_uri(plain),
        maps={
            view: jpeg_uri(blended(image, found.drops, box=found.box, view=view, side=_SIDE))
            for view in views
        },
        largest=float(np.abs(found.drops).max()),
        rows=found.credibility.to_dict(),
        measures=list(MEASURES),
        question=question,
        found=found,
        checked=checked,
        words=sorted(question.words, key=lambda word: -word.drop),
        widest=max((abs(word.drop) for word in question.words), default=0.0) or 1.0,
        chart=_curves(found.credibility, question.unit),
    )


def _curves(credibility: Credibility, unit: str) -> str | None:
    """Draw deletion and insertion: the map, the middle, and the random maps."""

    def draw(figure: Any) -> None:
        for axes, what in zip(figure.subplots(1, 2, sharey=True), MEASURES, strict=False):
            shares = np.linspace(0, 100, len(getattr(credibility.map, what)))
            for number, one in enumerate(credibility.random):
                label = "random maps" if number == 0 else None
                axes.plot(shares, getattr(one, what), color="0.8", linewidth=0.8, label=label)
            axes.plot(
                shares, getattr(credibility.centre, what), "C0--", label="a spot in the middle"
            )
            axes.plot(shares, getattr(credibility.map, what), "C3", label="this map")
            verb = "hidden" if what == "deletion" else "shown"
            axes.set(title=what, xlabel=f"% of the picture {verb}", ylabel=unit)
            axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return charts.png((9, 3.6), draw)
