"""What pages hand to the browser as files: thumbnails of uploads, and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from miniclip.errors import ImageError
from miniclip.images import ImageSource
from miniclip.serve.pages import disk
from miniclip.serve.service import Service

SIDE = 320  # pixels of the longer side of a thumbnail
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


async def thumbnail(service: Service, photo: Path | bytes, side: int = SIDE) -> str | None:
    """Return the path of a small JPEG of an uploaded photo; None when it cannot be read."""
    named = {"data": photo} if isinstance(photo, bytes) else {"path": photo}
    try:
        small = await service.decoders.thumbnail(ImageSource("the photo", **named), side)
    except ImageError:
        return None
    return disk.keep(small, "photo.jpg")


def table(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the path of a CSV file (RFC 4180) whose cells are text in any spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in (header, *rows):
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row])
    return disk.keep(text.getvalue().encode("utf-8", errors="replace"), name)
