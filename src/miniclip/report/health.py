"""The page of embedding health: figures with what they mean, and pictures of the space.

A heat map of captions x images, the cosines of matched and unmatched pairs, and retrieval sheets.
No figure is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miniclip.evaluate.health import HealthResult, Histogram
from miniclip.evaluate.retrieval import EmbeddedCaptions
from miniclip.evaluate.sheet import RetrievalSheet
from miniclip.images import ImageSource
from miniclip.probe.intervals import Score
from miniclip.report.charts import can_draw, png
from miniclip.report.page import write_page
from miniclip.report.retrieval import image_rows, sentence_rows

HEAT_MAP_SIDE = 10
SHOWN_SKIPPED = 20
_TABLE_BINS = 16
_MEANINGS = {
    "modality_gap": "distance between the mean image and the mean text; 0 is none",
    "alignment": "mean squared distance between a text and its image, 0 to 4; lower is better",
    "uniformity_images": "how evenly the images fill the sphere; lower is more even, "
    "a perfectly even space of many dimensions has -4",
    "uniformity_texts": "the same of the first text of each image",
    "effective_rank_images": "how many dimensions the images use",
    "effective_rank_texts": "how many dimensions the texts use",
    "hubness_images": "skewness of how often an image is found; 0 is even, hubs make it large",
    "hubness_texts": "the same of the texts",
    "matched_cosine": "mean cosine between a text and its image",
    "unmatched_cosine": "mean cosine between a text and another image",
}


@dataclass(frozen=True)
class HeatRow:
    """A caption and its cosines with the images of the heat map.

    cells: cosine, share of the way from the lowest to the highest in the map, and whether the
    image is its own.
    """

    caption: str
    cells: tuple[tuple[float, float, bool], ...]


def write_health_report(
    page: Path,
    result: HealthResult,
    sheet: RetrievalSheet,
    embedded: EmbeddedCaptions,
    *,
    model: str,
    command: str,
    seed: int = 0,
) -> None:
    """Write the page; StoreError if it fails. seed: of the images of the heat map."""
    captions = embedded.captions
    sources, heat = heat_map(embedded, seed=seed)
    write_page(
        page,
        "health.html",
        command=command,
        title=f"The space of {model}",
        result=result,
        figures=[(name, text(score), _MEANINGS[name]) for name, score in result.figures.items()],
        histogram=cosine_chart(result.histogram),
        bins=coarse(result.histogram),
        can_draw=can_draw(),
        heat_sources=sources,
        heat=heat,
        sources={image.name: image.source for image in captions.images},
        sentences=sentence_rows(sheet.sentences, captions),
        images=image_rows(sheet.images, captions),
        shown_skipped=SHOWN_SKIPPED,
    )


def text(score: Score) -> str:
    """Write a figure with its interval; a rank, which is large, with one digit."""
    digits = 1 if score.value >= 10 else 3
    low, high = score.interval
    return f"{score.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def heat_map(
    embedded: EmbeddedCaptions, *, side: int = HEAT_MAP_SIDE, seed: int = 0
) -> tuple[list[ImageSource], list[HeatRow]]:
    """Draw some images, and lay out the cosines between each and the first caption of each."""
    captions = embedded.captions
    count = min(side, len(captions))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(captions))[:count])
    first = np.flatnonzero(np.diff(captions.image_of_text, prepend=-1))[chosen]
    cosines = embedded.text[first] @ embedded.image[chosen].T
    low, high = float(cosines.min()), float(cosines.max())
    shares = (cosines - low) / max(high - low, 1e-9)
    rows = [
        HeatRow(
            captions.texts[number],
            tuple(
                (float(cosines[row, column]), float(shares[row, column]), row == column)
                for column in range(count)
            ),
        )
        for row, number in enumerate(first.tolist())
    ]
    return [captions.images[one].source for one in chosen.tolist()], rows


def cosine_chart(histogram: Histogram) -> str | None:
    """Histogram of matched and unmatched cosines as a data URI; None where it cannot be drawn."""
    edges = np.array(histogram.edges)
    used = np.flatnonzero(np.array(histogram.matched) + np.array(histogram.unmatched))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, counts in (("unmatched", histogram.unmatched), ("matched", histogram.matched)):
            shares = np.array(counts) / max(sum(counts), 1)
            axes.stairs(100 * shares, edges, fill=True, alpha=0.55, label=name)
        axes.set(xlabel="cosine", ylabel="% of the pairs")
        if len(used):
            axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return png((6.4, 3.6), draw)


def coarse(histogram: Histogram) -> Sequence[tuple[float, float, float, float]]:
    """Sum bins for the table: (from, to, share of the matched, share of the unmatched)."""
    step = len(histogram.matched) // _TABLE_BINS
    rows = []
    for start in range(0, len(histogram.matched), step):
        end = start + step
        matched = sum(histogram.matched[start:end]) / max(sum(histogram.matched), 1)
        unmatched = sum(histogram.unmatched[start:end]) / max(sum(histogram.unmatched), 1)
        if matched or unmatched:
            rows.append((histogram.edges[start], histogram.edges[end], matched, unmatched))
    return rows
