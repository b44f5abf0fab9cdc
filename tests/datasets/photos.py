"""Small photo folders for the tests of readers."""

from __future__ import annotations

from pathlib import Path

from miniclip.testing import picture


def make_photos(folder: Path, *names: str) -> Path:
    """Write a small red JPEG or PNG under each name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture("red").save(path)
    return folder
