"""A `Filter` as an expression of Milvus over the columns of `milvus_rows`.

Not everything can be said there: an expression may then let more images through than the filter
does, and whoever asks has to look at each with `filter_rules.holds`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from miniclip.index.filter_rules import check
from miniclip.index.milvus_rows import ABSENT, encoded, folded, optional, text_of
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

MAX_DEPTH = 20  # the parser of Milvus Lite calls itself a dozen times for each level

_LACKS = {"member", "taken", "camera", "width", "height", "latitude", "longitude"}
_LISTS: dict[Column, str] = {"caption": "captions", "tag": "tags"}
_FOLDED: dict[Column, str] = {"path": "path_folded", "camera": "camera_folded"}
_ALWAYS, _NEVER = "mtime_ns >= 0 or mtime_ns < 0", "mtime_ns < 0 and mtime_ns >= 0"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Expression(NamedTuple):
    """text: "" lets everything through. exact: whether it says all that the filter says."""

    text: str
    exact: bool


_NOTHING_SAID = Expression("", exact=False)


def expression(where: Filter | None) -> Expression:
    """Translate; ConfigError for a filter that no store could answer."""
    check(where)
    return Expression("", exact=True) if where is None else _expression(where, 0)


def quoted(text: str) -> str:
    """Write a text as a literal of the language of expressions."""
    return f'"{text.translate(_ESCAPES)}"'


def _expression(where: Filter, depth: int) -> Expression:
    found = _NOTHING_SAID
    match where:
        case _ if depth > MAX_DEPTH:
            pass
        case Compare(column, "like", value):
            found = _like(column, str(value))
        case Compare():
            found = _compare(where)
        case Exists(column):
            found = Expression(_exists(column) or _ALWAYS, exact=True)
        case Below(folder):
            found = Expression(_below(folder), exact=True)
        case Both(parts):
            inner = [_expression(part, depth + 1) for part in parts]
            said = [f"({part.text})" for part in inner if part.text]
            exact = all(part.exact for part in inner)
            found = Expression(" and ".join(said) or (_ALWAYS if exact else ""), exact)
        case Either(parts):
            inner = [_expression(part, depth + 1) for part in parts]
            if all(part.exact for part in inner):
                said = [f"({part.text})" for part in inner]
                found = Expression(" or ".join(said) or _NEVER, exact=True)
        case Without(part):
            denied = _expression(part, depth + 1)
            if denied.exact:
                found = Expression(f"not ({denied.text})", exact=True)
    return found


def _compare(part: Compare) -> Expression:
    column, sign, value = part.column, part.operator, part.value
    if column in _LISTS:
        if sign != "=":
            return _NOTHING_SAID
        literal = quoted(text_of(str(value)))
        return Expression(f"array_contains({_LISTS[column]}, {literal})", exact=True)
    literal = quoted(_stored(column, value)) if isinstance(value, str) else repr(float(value))
    said = f"{column} {'==' if sign == '=' else sign} {literal}"
    return Expression(_guarded(column, said), exact=True)


def _like(column: Column, pattern: str) -> Expression:
    """Say it over a column in which ASCII letters are small, if there is one."""
    if column in _LISTS or "\\" in pattern:  # whether \ is an escape, Milvus and Milvus Lite differ
        return _NOTHING_SAID
    wanted = _stored(column, pattern)
    if column in _FOLDED:
        said = f"{_FOLDED[column]} like {quoted(folded(wanted))}"
    elif folded(wanted) == folded(wanted).upper():  # there are no letters
        said = f"{column} like {quoted(wanted)}"
    else:
        return _NOTHING_SAID
    return Expression(_guarded(column, said), exact=True)


def _guarded(column: Column, said: str) -> str:
    exists = _exists(column)
    return f"{exists} and {said}" if exists else said


def _exists(column: Column) -> str:
    """Return what says that an image has the column; "" when all have."""
    if column in _LISTS:
        return f"array_length({_LISTS[column]}) > 0"
    if column not in _LACKS:
        return ""
    return f'{column} != ""' if column in ("member", "taken", "camera") else f"{column} > {ABSENT}"


def _stored(column: Column, value: str) -> str:
    """Write a text as the rows hold it."""
    return optional(value) if column in ("taken", "camera") else encoded(value)


def _below(folder: str) -> str:
    if not folder:
        return _ALWAYS
    place = encoded(folder.rstrip(os.sep))
    inside, beyond = place + os.sep, place + chr(ord(os.sep) + 1)
    return f"path == {quoted(place)} or path >= {quoted(inside)} and path < {quoted(beyond)}"
