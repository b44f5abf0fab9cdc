"""The language of `--where`: `taken >= 2024 and camera like '%Nikon%'` to a filter of the store.

The grammar stands in where.lark. It ends in a tree of `miniclip.index.store` filters, so that no
part of what a user writes is ever read as SQL: columns and operators come from fixed lists, values
travel as values. It asks no store.
"""

from __future__ import annotations

import calendar
import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NoReturn, cast

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken, VisitError

from miniclip.errors import ConfigError
from miniclip.index.store import (
    COLUMNS,
    TEXT_COLUMNS,
    Below,
    Both,
    Column,
    Compare,
    Either,
    Exists,
    Filter,
    Operator,
    Without,
)

MAX_CHARACTERS = 2_000  # a longer one is no question of a person; it also bounds the depth
FOLDER = "folder"  # not a column of the store: what lies in a folder or deeper
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?)?)?")
_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_EXPECTED = {
    "NAME": "a column",
    "OPERATOR": "an operator such as = or >=",
    "STRING": "a text in quotes",
    "DATE": "a date such as 2024 or 2024-05-01",
    "NUMBER": "a number",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "$END": "the end",
}


def parse_where(text: str) -> Filter:
    """Read a condition on the metadata of images.

    Columns: those of the store (`COLUMNS`) and `folder`. Operators: = != < <= > >=, like and
    not like with % and _, between, in (...), is null, is not null; and, or, not, parentheses, in
    this order of binding: not, and, or. `taken` and `mtime` compare with dates of any precision; a
    date means the whole period: `taken = 2024-05` is all of May, `taken > 2024` begins with 2025.
    `size` also takes 500kB, 2MB, 1GiB.

    ConfigError that shows the place for everything else.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"--where has {len(text)} characters; keep it below {MAX_CHARACTERS}, or ask twice"
        )
    try:
        return _ToFilter(text).transform(_parser().parse(text))
    except VisitError as error:
        raise error.orig_exc from None
    except UnexpectedInput as error:
        _refuse(text, error)


def in_folder(folder: str) -> Filter:
    """Return the filter of all that lies in a folder or deeper."""
    return Below(folder)


def taken_between(after: str | None, before: str | None) -> Filter:
    """Return the filter of `--after` and `--before`: dates, both included; no date is left out.

    ConfigError for what is no date.
    """
    parts: list[Filter] = []
    for option, operator, text in (("--after", ">=", after), ("--before", "<=", before)):
        if text is not None:
            try:
                parts.append(_compare_date("taken", cast(Operator, operator), _period(text)))
            except ValueError as error:
                raise ConfigError(
                    f"{option} {text!r} is no date; write 2024, 2024-05 or 2024-05-01"
                ) from error
    return Both(tuple(parts))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark.open("where.lark", rel_to=__file__, parser="lalr", maybe_placeholders=False)


@v_args(inline=True)
class _ToFilter(Transformer[Token, Filter]):
    """Each method takes the parts of one rule of the grammar."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def either(self, *parts: Filter) -> Filter:
        return Either(parts)

    def both(self, *parts: Filter) -> Filter:
        return Both(parts)

    def negation(self, part: Filter) -> Filter:
        return part.part if isinstance(part, Without) else Without(part)

    def value(self, token: Token) -> Token:
        return token

    def comparison(self, name: Token, sign: Token, value: Token) -> Filter:
        operator = {"==": "=", "<>": "!="}.get(str(sign), str(sign))
        return self._compare(name, cast(Operator, operator), value)

    def likeness(self, name: Token, pattern: Token) -> Filter:
        column = self._column(name)
        if column not in TEXT_COLUMNS:
            self._wrong(name, f"{name} is a number, which like cannot search; use = < >")
        return Compare(column, "like", _unquoted(pattern))

    def unlikeness(self, name: Token, pattern: Token) -> Filter:
        return Without(self.likeness(name, pattern))

    def range(self, name: Token, low: Token, high: Token) -> Filter:
        return Both((self._compare(name, ">=", low), self._compare(name, "<=", high)))

    def membership(self, name: Token, *values: Token) -> Filter:
        return Either(tuple(self._compare(name, "=", value) for value in values))

    def absence(self, name: Token) -> Filter:
        return Without(self.presence(name))

    def presence(self, name: Token) -> Filter:
        return Exists(self._column(name))

    def _column(self, name: Token) -> Column:
        column = next((column for column in COLUMNS if column == name.lower()), None)
        if column is None:
            self._wrong(name, f"there is no column {name}; use {', '.join((*COLUMNS, FOLDER))}")
        return column

    def _compare(self, name: Token, operator: Operator, value: Token) -> Filter:
        if name.lower() == FOLDER:
            if operator not in ("=", "!=") or value.type != "STRING":
                self._wrong(value, "a folder is compared by = or != with a name in quotes")
            inside = Below(_unquoted(value))
            return inside if operator == "=" else Without(inside)
        column = self._column(name)
        if column in ("taken", "mtime"):
            # A number of up to four digits is a year; more are seconds since 1970.
            if column == "mtime" and value.type == "NUMBER" and float(value) > 9999:
                return Compare(column, operator, float(value))
            try:
                return _compare_date(column, operator, _period(_unquoted(value)))
            except (ValueError, OverflowError):  # no date, or none that this system's clock knows
                self._wrong(value, f"{value} is no date; write 2024, 2024-05 or 2024-05-01")
        if column in TEXT_COLUMNS:
            if value.type != "STRING":
                self._wrong(value, f"{name} is a text; put {value} in quotes")
            return Compare(column, operator, _unquoted(value))
        if value.type == "SIZE" and column == "size":
            return Compare(column, operator, _bytes(value))
        if value.type != "NUMBER":
            self._wrong(value, f"{name} is a number; {value} is none")
        return Compare(column, operator, _number(value))

    def _wrong(self, token: Token, why: str) -> NoReturn:
        raise _error(self._text, token.start_pos or 0, why)


_Period = tuple[datetime, datetime]  # the first moment of it, and the first moment after it


def _period(text: str) -> _Period:
    """Read a date of any precision, year to second; ValueError for what is none."""
    text = text.strip().replace(" ", "T")
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    start = datetime.fromisoformat(text + "0001-01-01T00:00:00"[len(text) :])
    length = {
        4: timedelta(366 if calendar.isleap(start.year) else 365),
        7: timedelta(calendar.monthrange(start.year, start.month)[1]),
        10: timedelta(days=1),
        16: timedelta(minutes=1),
        19: timedelta(seconds=1),
    }[len(text)]
    try:
        return start, start + length
    except OverflowError as error:
        raise ValueError(text) from error


def _compare_date(column: Column, operator: Operator, period: _Period) -> Filter:
    """Compare with a period: after it is after its end, in it is between its ends."""
    start, end = (_moment(column, moment) for moment in period)
    if operator == "=":
        return Both((Compare(column, ">=", start), Compare(column, "<", end)))
    if operator == "!=":
        return Either((Compare(column, "<", start), Compare(column, ">=", end)))
    if operator in ("<", ">="):
        return Compare(column, operator, start)
    return Compare(column, "<" if operator == "<=" else ">=", end)


def _moment(column: Column, moment: datetime) -> str | float:
    return moment.isoformat() if column == "taken" else moment.timestamp()


def _unquoted(token: str) -> str:
    if token[:1] in ("'", '"'):
        return token[1:-1].replace(token[0] * 2, token[0])
    return str(token)


def _number(token: str) -> int | float:
    return float(token) if "." in token or len(token) > 15 else int(token)


def _bytes(token: str) -> int:
    digits = token.rstrip("kKmMgGiIbB ")
    unit = token[len(digits) :].strip().lower()
    factor = (_BINARY_UNITS if "i" in unit else _UNITS)[unit[0]]
    return math.ceil(float(digits) * factor)


def _refuse(text: str, error: UnexpectedInput) -> NoReturn:
    place: int = len(text)
    expected, what = set[str](), "it ends too early"
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        place = error.token.start_pos or 0
        expected = set(error.accepts or error.expected)
        what = f"{str(error.token)[:40]!r} does not fit here"
    elif isinstance(error, UnexpectedCharacters):
        place, expected = error.pos_in_stream or 0, set(error.allowed or ())
        what = f"{text[place : place + 1]!r} does not fit here"
    elif isinstance(error, UnexpectedToken | UnexpectedEOF):
        expected = set(error.expected)
    wanted = sorted(_EXPECTED.get(name, name.lower()) for name in expected - {"SIZE"})
    raise _error(text, place, f"{what}; expected {', '.join(wanted)}" if wanted else what) from None


def _error(text: str, place: int, why: str) -> ConfigError:
    """Say why, and show the line with a mark below the place."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    first = max(0, place - 60)
    line = shown[first : place + 60]
    return ConfigError(
        f"--where, character {place + 1}: {why}\n  {line}\n  {' ' * (place - first)}^"
    )
