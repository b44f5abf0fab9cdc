"""What every caption reader yields, and text files read so that one bad line costs one line.

It knows no format.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.images import ImageSource
from miniclip.textfile import Line

IMAGE_KEYS = ("image", "file_name", "filename", "path", "filepath", "image_path", "image_name")
CAPTION_KEYS = ("caption", "captions", "text", "texts", "sentence", "comment")


class Row(NamedTuple):
    """One caption of one image.

    image: the name as the file gives it. caption: raw text. where: for messages, such as
    "captions.txt line 7". source: the image, where the reader has it; None means a file `image`.
    """

    image: str
    caption: str
    where: str
    source: ImageSource | None = None


class Columns(NamedTuple):
    """The names of the image and caption columns (or JSON keys); None means one of the usual."""

    image: str | None = None
    caption: str | None = None
    caption_keys: tuple[str, ...] = CAPTION_KEYS

    @property
    def wanted(self) -> str:
        """What to look for, in words."""
        image = self.image or " or ".join(IMAGE_KEYS)
        return f"a column {image}, and one {self.caption or ' or '.join(self.caption_keys)}"

    def of(self, names: list[str]) -> tuple[str, str] | None:
        """Pick the image and caption names among `names`; None when one of them is not there."""
        image = _pick(self.image, IMAGE_KEYS, names)
        caption = _pick(self.caption, self.caption_keys, names)
        return (image, caption) if image is not None and caption is not None else None


def text_lines(path: Path) -> Iterator[Line | Skipped]:
    """Yield the lines that are not blank; a line that is not UTF-8 comes as `Skipped`.

    A byte-order mark is removed. Raises DatasetError when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    yield Skipped(line_name(path, number), f"not UTF-8 text ({error.reason})")
                    continue
                if text.strip():
                    yield Line(number, text)
    except OSError as error:
        raise unreadable(path, error) from error


def line_name(path: Path, number: int) -> str:
    """Name a line for messages."""
    return f"{path.name} line {number}"


def unreadable(path: Path, error: OSError) -> DatasetError:
    """Say that a data set file cannot be read."""
    reason = error.strerror or str(error)
    return DatasetError(f"cannot read {path}: {reason}; check the path and its permissions")


def record_rows(record: object, columns: Columns, where: str) -> Iterator[Row | Skipped]:
    """Rows of one JSON object such as {"image": "a.jpg", "captions": ["...", "..."]}."""
    if not isinstance(record, dict):
        yield Skipped(where, f"not a JSON object but {type(record).__name__}")
        return
    names = columns.of(list(record))
    if names is None:
        yield Skipped(where, f"no image or no caption among the keys {sorted(map(str, record))}")
        return
    yield from value_rows(record[names[0]], record[names[1]], where)


def value_rows(image: object, captions: object, where: str) -> Iterator[Row | Skipped]:
    """Rows of one image and its caption or list of captions, any of which may be no text."""
    if not isinstance(image, str) or not image.strip():
        yield Skipped(where, f"not the name of an image: {reprlib.repr(image)}")
        return
    for caption in captions if isinstance(captions, list) else [captions]:
        if isinstance(caption, str):
            yield Row(image.strip(), caption, where)
        else:
            yield Skipped(where, f"the caption is not text: {reprlib.repr(caption)}")
    if captions == []:
        yield Skipped(where, "no caption: the list of them is empty")


def _pick(wanted: str | None, usual: tuple[str, ...], names: list[str]) -> str | None:
    if wanted is not None:
        return wanted if wanted in names else None
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    return next((by_lower[key] for key in usual if key in by_lower), None)
