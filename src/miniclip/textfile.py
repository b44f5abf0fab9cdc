"""Short text files that people write: sentences, templates, labels, one a line.

A broken one is refused as a whole; where a bad line costs one line, see `datasets/rows.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from miniclip.errors import ConfigError


class Line(NamedTuple):
    """A line of a text file: its 1-based number, and its text without the line end."""

    number: int
    text: str


def read_lines(path: Path, what: str, *, comments: bool = False) -> list[Line]:
    """Return the lines of a UTF-8 file, stripped, without blank ones and, if so, '#' comments.

    what: what the lines are, for messages. ConfigError when none is left or the file is unreadable.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [Line(number, raw.strip()) for number, raw in enumerate(file, start=1)]
    except OSError as error:
        raise ConfigError(
            f"cannot read the {what} file {path}: {error.strerror or error}; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {what} file {path} is not UTF-8 text; save it as UTF-8") from error
    kept = [line for line in lines if line.text and not (comments and line.text.startswith("#"))]
    if not kept:
        raise ConfigError(f"{path} holds no {what}; write one a line")
    return kept
