"""A `Filter` as a condition of SQLite over the table `images`; every value is a parameter.

The only texts that reach the SQL are those written in this file. It parses nothing; see `where`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from miniclip.index.filter_rules import check
from miniclip.index.store import (
    Below,
    Both,
    Column,
    Compare,
    Either,
    Exists,
    Filter,
    Without,
)

Value = bytes | str | int | float

# NULL where the image lacks the column: a comparison with it is then neither true nor false.
_VALUE: dict[Column, str] = {
    "path": "CAST(images.path AS TEXT)",
    "member": "CAST(nullif(images.member, x'') AS TEXT)",
    "size": "images.size",
    "mtime": "images.mtime_ns / 1e9",
    "width": "nullif(images.width, 0)",
    "height": "nullif(images.height, 0)",
    "taken": "images.taken",
    "camera": "images.camera",
    "latitude": "images.latitude",
    "longitude": "images.longitude",
}
# Columns of which an image has several.
_ROWS: dict[Column, tuple[str, str]] = {
    "caption": (
        "texts.text",
        "captions JOIN texts ON texts.id = captions.text WHERE captions.image = images.id",
    ),
    "tag": ("tags.tag", "tags WHERE tags.image = images.id"),
}


class Condition(NamedTuple):
    """SQL with a ? for each value."""

    sql: str
    values: tuple[Value, ...]


_ALWAYS = Condition("1", ())


def condition(where: Filter | None) -> Condition:
    """Return what goes behind WHERE; ConfigError for a filter that no store could answer."""
    check(where)
    return _condition(where) if where is not None else _ALWAYS


def _condition(where: Filter) -> Condition:
    match where:
        case Compare():
            found = _compare(where)
        case Exists(column):
            found = _exists(column)
        case Below(folder):
            found = _below(folder)
        case Both(parts):
            found = _joined(parts, " AND ", "1")
        case Either(parts):
            found = _joined(parts, " OR ", "0")
        case Without(part):
            inner = _condition(part)
            found = Condition(f"NOT ({inner.sql})", inner.values)
    return found


def _compare(part: Compare) -> Condition:
    column, operator, value = part.column, part.operator, part.value
    # A text travels as bytes: file names need not be UTF-8.
    mark = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
    bound = _encoded(value) if isinstance(value, str) else value
    if column in _ROWS:
        expression, rows = _ROWS[column]
        return Condition(
            f"EXISTS (SELECT 1 FROM {rows} AND {expression} {operator} {mark})", (bound,)
        )
    return Condition(f"coalesce({_VALUE[column]} {operator} {mark}, 0)", (bound,))


def _exists(column: Column) -> Condition:
    if column in _ROWS:
        return Condition(f"EXISTS (SELECT 1 FROM {_ROWS[column][1]})", ())
    return Condition(f"{_VALUE[column]} IS NOT NULL", ())


def _below(folder: str) -> Condition:
    """Compare bytes, which the index over (path, member) answers."""
    if not folder:
        return _ALWAYS
    place, separator = _encoded(folder).rstrip(os.fsencode(os.sep)), os.fsencode(os.sep)
    beyond = place + bytes([separator[0] + 1])
    return Condition(
        "(images.path = ? OR images.path >= ? AND images.path < ?)",
        (place, place + separator, beyond),
    )


def _joined(parts: tuple[Filter, ...], word: str, empty: str) -> Condition:
    inner = [_condition(part) for part in parts]
    values = tuple(value for part in inner for value in part.values)
    if not inner:
        return Condition(empty, ())
    return Condition(f"({_balanced([part.sql for part in inner], word)})", values)


def _balanced(parts: list[str], word: str) -> str:
    """Join as a tree, since SQLite counts `a AND b AND c ...` as that many levels."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        paired = [f"({left}{word}{right})" for left, right in pairs]
        parts = paired + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
