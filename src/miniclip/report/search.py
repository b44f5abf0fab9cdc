"""The page of a search: the query and its hits, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniclip.images import ImageSource
from miniclip.report.page import write_page


@dataclass(frozen=True)
class Tile:
    """A hit on the contact sheet.

    score: a cosine, -1 to 1. doubtful: whether it most likely shows something else. alike: names of
    its near-duplicates.
    """

    source: ImageSource
    score: float
    doubtful: bool = False
    alike: tuple[str, ...] = ()


def write_search_page(
    path: Path, *, title: str, example: Path | None, hits: Sequence[Tile], command: str
) -> None:
    """Write the page, with the example image if one was asked by. StoreError if it fails."""
    write_page(path, "search.html", command=command, title=title, example=example, hits=hits)
