"""How `search` shows an answer: lines, a table, JSON, a page, or the best image opened."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from miniclip.cli import output

if TYPE_CHECKING:
    from miniclip.cli.places import Places
    from miniclip.index.ask import Answer, Found
    from miniclip.index.store import ImageRecord


@dataclass(frozen=True)
class Shown:
    """An answer, and what was asked: the sentence, the images, the page, the lowest confidence."""

    places: Places
    answer: Answer
    sentence: str
    images: tuple[str, ...]
    page: int
    cut: float
    html: Path | None


def print_lines(shown: Shown) -> None:
    """Print a line for each hit: score, a mark where the match is doubtful, path."""
    doubt = any(hit.doubtful for hit in shown.answer.hits)
    for hit in shown.answer.hits:
        mark = (" ?" if hit.doubtful else "  ") if doubt else ""
        output.print_line(f"{hit.cosine:6.3f}{mark}  {shown.places.path_of(hit.record)}")
        for copy in hit.alike:
            output.print_line(f"{'':{6 + len(mark)}}  = {shown.places.path_of(copy)}")
    if doubt:
        output.note("? marks images that most likely show something else")
    _note(shown)


def print_table(shown: Shown) -> None:
    """Print comma-separated values with a header (RFC 4180)."""
    table = csv.writer(sys.stdout)
    table.writerow(["path", "score", "confidence", "alike"])
    for hit in shown.answer.hits:
        entry = _hit(shown.places, hit)
        alike = "\n".join(entry["alike"])
        sure = "" if hit.confidence is None else f"{hit.confidence:.4f}"
        table.writerow([entry["path"], f"{hit.cosine:.6f}", sure, alike])
    _note(shown)


def to_dict(shown: Shown) -> dict[str, Any]:
    """Return what `--json` prints, but for the model."""
    query: dict[str, Any] = {"text": shown.sentence} if shown.sentence else {}
    if len(shown.images) == 1:
        query["image"] = shown.images[0]
    elif shown.images:
        query["images"] = list(shown.images)
    places, answer = shown.places, shown.answer
    return {
        "query": query,
        "hits": [_hit(places, hit) for hit in answer.hits],
        "closest": _hit(places, answer.closest) if answer.closest else None,
        "min_confidence": shown.cut,
        "page": shown.page,
        "more": answer.more,
        "index": str(places.index.address) if places.index else None,
        "searched": places.count,
        "embedded": places.embedded,
        "skipped": [entry.to_dict() for entry in places.skipped],
        "html": str(shown.html) if shown.html else None,
    }


def write_page(path: Path, shown: Shown, title: str) -> None:
    """Write the contact sheet."""
    from miniclip.report.search import Tile, write_search_page

    records = [hit.record for hit in shown.answer.hits]
    sources = [
        replace(source, name=name)
        for source, name in zip(
            shown.places.sources_of(records), _paths(shown.places, records), strict=True
        )
    ]
    tiles = [
        Tile(source, hit.cosine, hit.doubtful, tuple(_paths(shown.places, hit.alike)))
        for source, hit in zip(sources, shown.answer.hits, strict=True)
    ]
    example = Path(shown.images[0]) if len(shown.images) == 1 and not shown.sentence else None
    write_search_page(path, title=title, example=example, hits=tiles, command=output.command_line())


def open_best(shown: Shown) -> None:
    """Open the page, or the best image, with what the system has for it."""
    if shown.html:
        typer.launch(str(shown.html.absolute()))
    elif not shown.answer.hits:
        output.warn("there is no image to open")
    elif (best := shown.answer.hits[0].record).member:
        output.warn(f"{shown.places.path_of(best)} lies in an archive and cannot be opened alone")
    else:
        typer.launch(str(shown.places.path_of(best)))


def _hit(places: Places, hit: Found) -> dict[str, Any]:
    return {
        "path": str(places.path_of(hit.record)),
        "score": hit.cosine,
        "confidence": hit.confidence,
        "alike": _paths(places, hit.alike),
    }


def _paths(places: Places, images: Sequence[ImageRecord]) -> list[str]:
    return [str(places.path_of(image)) for image in images]


def _note(shown: Shown) -> None:
    answer = shown.answer
    if answer.closest:
        path = shown.places.path_of(answer.closest.record)
        output.note(
            f"nothing here matches; the closest is {path} (confidence "
            f"{answer.closest.confidence or 0:.2f}), --min-confidence 0 shows it and others"
        )
    elif not answer.hits:
        output.note("no image to show on this page, under these conditions")
    if answer.more and sys.stdout.isatty():
        output.note(f"more: --page {shown.page + 1}")
    if shown.html:
        output.note(f"wrote {shown.html}")
