"""Names that came with the data, as a line of a terminal and as the name of a folder or file.

Labels and file names may hold anything. What is stored and compared stays as it is; this is for
showing and for writing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from unicodedata import category

_ENDS_A_LINE = ("Cc", "Zl", "Zp")  # categories of Unicode: control signs, line and paragraph ends
_NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\u2028\u2029]')
_LONGEST = 200  # bytes; file systems take 255, and a number may come behind


def one_line(text: str) -> str:
    """Return a text in which what would control a terminal, or end a line, stands as its escape."""
    return "".join(
        sign.encode("unicode_escape").decode() if category(sign) in _ENDS_A_LINE else sign
        for sign in text
    )


def file_name(text: str, taken: Collection[str] = ()) -> str:
    """Return a text as the name of one folder or file, on any system: never a path, never empty.

    taken: names in lower case that it must not have; it then gets a number.
    """
    name = cut(_NOT_IN_NAMES.sub("_", text), _LONGEST).rstrip(". ") or "_"
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def cut(text: str, most: int) -> str:
    """Return as much of a text as fits into so many bytes of UTF-8."""
    text = text[:most]
    while len(text.encode("utf-8", "surrogatepass")) > most:
        text = text[:-1]
    return text
