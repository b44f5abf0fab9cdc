"""A `Filter` as a condition of SQLite over the table `images`; every value is a parameter.

The only texts that reach the SQL are those written in this file. It parses nothing; see `where`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from miniclip.errors import ConfigError
from miniclip.index.store import (
    OPERATORS,
    TEXT_COLUMNS,
    Below,
    Both,
    Column,
    Compare,
    Either,
    Exists,
    Filter,
    Without,
)

MAX_DEPTH = 200  # SQLite takes 1,000 levels of its own, a few to each of ours
MAX_VALUES = 1_000  # SQLite takes 32,766, slowly

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


def condition(where: Filter | None, *, depth: int = 0) -> Condition:
    """Return what goes behind WHERE; ConfigError for a filter that no store could answer."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"the filter is nested deeper than {MAX_DEPTH} levels; simplify it")
    match where:
        case None:
            found = Condition("1", ())
        case Compare():
            found = _compare(where)
        case Exists(column):
            found = _exists(column)
        case Below(folder):
            found = _below(folder)
        case Both(parts):
            found = _joined(parts, " AND ", "1", depth)
        case Either(parts):
            found = _joined(parts, " OR ", "0", depth)
        case Without(part):
            inner = condition(part, depth=depth + 1)
            found = Condition(f"NOT ({inner.sql})", inner.values)
    return found


def _compare(part: Compare) -> Condition:
    column, operator, value = part.column, part.operator, part.value
    _check(column)
    if operator not in OPERATORS:
        raise ConfigError(f"{operator} is no comparison; use one of {', '.join(OPERATORS)}")
    if isinstance(value, str) != (column in TEXT_COLUMNS):
        kind = "a text" if column in TEXT_COLUMNS else "a number"
        raise ConfigError(f"{column} is compared with {value!r}; give {kind}")
    if operator == "like" and column not in TEXT_COLUMNS:
        raise ConfigError(f"{column} is a number; like compares texts")
    # A text travels as bytes: file names need not be UTF-8.
    mark = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
    bound = _encoded(value) if isinstance(value, str) else _number(value)
    if column in _ROWS:
        expression, rows = _ROWS[column]
        return Condition(
            f"EXISTS (SELECT 1 FROM {rows} AND {expression} {operator} {mark})", (bound,)
        )
    return Condition(f"coalesce({_VALUE[column]} {operator} {mark}, 0)", (bound,))


def _exists(column: Column) -> Condition:
    _check(column)
    if column in _ROWS:
        return Condition(f"EXISTS (SELECT 1 FROM {_ROWS[column][1]})", ())
    return Condition(f"{_VALUE[column]} IS NOT NULL", ())


def _below(folder: str) -> Condition:
    """Compare bytes, which the index over (path, member) answers."""
    if not folder:
        return condition(None)
    place, separator = _encoded(folder).rstrip(os.fsencode(os.sep)), os.fsencode(os.sep)
    beyond = place + bytes([separator[0] + 1])
    return Condition(
        "(images.path = ? OR images.path >= ? AND images.path < ?)",
        (place, place + separator, beyond),
    )


def _joined(parts: tuple[Filter, ...], word: str, empty: str, depth: int) -> Condition:
    inner = [condition(part, depth=depth + 1) for part in parts]
    values = tuple(value for part in inner for value in part.values)
    if len(values) > MAX_VALUES:
        raise ConfigError(f"the filter compares {len(values)} values; use at most {MAX_VALUES}")
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
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigError(f"the filter holds {text!r}, which is no valid text") from None


def _number(value: int | float) -> int | float:
    if not abs(value) < 1 << 63:
        raise ConfigError(f"the filter compares with {value:.3g}; use a smaller number")
    return value


def _check(column: Column) -> None:
    if column not in _VALUE and column not in _ROWS:
        known = ", ".join((*_VALUE, *_ROWS))
        raise ConfigError(f"there is no column {column}; use one of {known}")
