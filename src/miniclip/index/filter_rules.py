"""What a `Filter` may say, and whether it holds for an image; no database.

A store that cannot ask its database everything that a filter says asks here.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from miniclip.errors import ConfigError
from miniclip.index.store import (
    COLUMNS,
    OPERATORS,
    TEXT_COLUMNS,
    Below,
    Both,
    Column,
    Compare,
    Either,
    Exists,
    Filter,
    NewImage,
    Without,
)

MAX_DEPTH = 200  # SQLite takes 1,000 levels of its own, a few to each of ours
MAX_VALUES = 1_000  # SQLite takes 32,766, slowly

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def check(where: Filter | None) -> None:
    """Raise ConfigError for a filter that no store could answer."""
    if where is not None:
        _check(where, 0)


def holds(where: Filter, image: NewImage) -> bool:
    """Return whether a filter that passed `check` holds for an image."""
    match where:
        case Both(parts):
            found = all(holds(part, image) for part in parts)
        case Either(parts):
            found = any(holds(part, image) for part in parts)
        case Without(part):
            found = not holds(part, image)
        case Below(folder):
            place = folder.rstrip(os.sep)
            inside = image.path == place or image.path.startswith(place + os.sep)
            found = not folder or inside
        case Exists(column):
            found = bool(_values(column, image))
        case Compare(column, sign, value):
            found = any(_compares(have, sign, value) for have in _values(column, image))
    return found


def _check(where: Filter, depth: int) -> int:
    """Return the number of values it compares with."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"the filter is nested deeper than {MAX_DEPTH} levels; simplify it")
    values = 0
    match where:
        case Both(parts) | Either(parts):
            values = sum(_check(part, depth + 1) for part in parts)
        case Without(part):
            values = _check(part, depth + 1)
        case Below(folder):
            _check_text(folder)
            values = 3 if folder else 0
        case Exists(column):
            _check_column(column)
        case Compare():
            _check_comparison(where)
            values = 1
    if values > MAX_VALUES:
        raise ConfigError(f"the filter compares {values} values; use at most {MAX_VALUES}")
    return values


def _check_comparison(part: Compare) -> None:
    column, value = part.column, part.value
    _check_column(column)
    if part.operator not in OPERATORS:
        raise ConfigError(f"{part.operator} is no comparison; use one of {', '.join(OPERATORS)}")
    if isinstance(value, str) != (column in TEXT_COLUMNS):
        kind = "a text" if column in TEXT_COLUMNS else "a number"
        raise ConfigError(f"{column} is compared with {value!r}; give {kind}")
    if part.operator == "like" and column not in TEXT_COLUMNS:
        raise ConfigError(f"{column} is a number; like compares texts")
    if isinstance(value, str):
        _check_text(value)
    elif not abs(value) < 1 << 63:
        raise ConfigError(f"the filter compares with {value:.3g}; use a smaller number")


def _check_text(text: str) -> None:
    try:
        _encoded(text)
    except UnicodeEncodeError:
        raise ConfigError(f"the filter holds {text!r}, which is no valid text") from None


def _check_column(column: Column) -> None:
    if column not in COLUMNS:
        raise ConfigError(f"there is no column {column}; use one of {', '.join(COLUMNS)}")


def _values(column: Column, image: NewImage) -> tuple[Any, ...]:
    """Return what an image has in a column: nothing, one value, or several."""
    match column:
        case "caption":
            return image.captions
        case "tag":
            return image.tags
        case "mtime":
            return (image.mtime_ns / 1e9,)
        case "member" | "width" | "height":
            value = getattr(image, column)
            return (value,) if value else ()
        case _:
            value = getattr(image, column)
            return () if value is None else (value,)


def _compares(have: Any, sign: str, value: str | int | float) -> bool:
    if sign == "like":
        return bool(_pattern(str(value)).fullmatch(have))
    if isinstance(value, str):  # by code point, which the bytes of UTF-8 follow
        return _ORDER[sign](_encoded(have), _encoded(value))
    return _ORDER[sign](have, value)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=64)
def _pattern(like: str) -> re.Pattern[str]:
    regex = re.escape(like).replace("%", ".*").replace("_", ".")
    return re.compile(regex, re.DOTALL | re.IGNORECASE | re.ASCII)
