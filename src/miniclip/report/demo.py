"""The page of the demonstration: sentences with their photos, photos with sentences and labels."""

from __future__ import annotations

from pathlib import Path

from miniclip.demo import DemoResult
from miniclip.report.page import write_page


def write_demo_page(path: Path, result: DemoResult, *, command: str) -> None:
    """Write the page; StoreError if it fails."""
    write_page(path, "demo.html", command=command, title="miniclip demo", result=result)
