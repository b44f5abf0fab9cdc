"""The page of a search: the query and its hits, best first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miniclip.index.search import Hit
from miniclip.report.page import write_page


def write_search_page(path: Path, *, query: str | Path, hits: Sequence[Hit], command: str) -> None:
    """Write the page; a query that is a path is shown as an image. StoreError if it fails."""
    example = query if isinstance(query, Path) else None
    title = example.name if example else str(query)
    write_page(path, "search.html", command=command, title=title, example=example, hits=hits)
