"""The page of `miniclip duplicates`: each group side by side, the one to keep first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniclip.images import ImageSource
from miniclip.report.page import write_page


@dataclass(frozen=True)
class Copy:
    """One image of a group as a person sees it. note: size in pixels and bytes."""

    source: ImageSource
    note: str


def write_duplicates_page(
    path: Path, groups: Sequence[Sequence[Copy]], *, title: str, summary: str, command: str
) -> None:
    """Write the page; each group begins with the image to keep. StoreError if it fails."""
    write_page(
        path, "duplicates.html", command=command, title=title, summary=summary, groups=groups
    )
