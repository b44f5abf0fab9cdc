"""The language of --where: each form beside plain Python on the same photos, and hostile input."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.errors import ConfigError
from miniclip.index.store import (
    Below,
    Both,
    Compare,
    Either,
    Exists,
    Filter,
    Without,
)
from miniclip.index.where import MAX_CHARACTERS, in_folder, parse_where, taken_between

Photo = dict[str, Any]
PHOTOS: dict[str, Photo] = {
    "old": {"taken": "2023-12-31T23:59:59", "camera": "Canon EOS", "size": 900, "width": 10},
    "new year": {"taken": "2024-01-01T00:00:00", "camera": "NIKON D5", "size": 1_000, "width": 20},
    "may": {"taken": "2024-05-07T10:30:15", "camera": "Nikon's", "size": 2_000_000, "width": 30},
    "summer": {"taken": "2024-06-01T00:00:00", "size": 2_097_152, "width": 40, "latitude": -33.5},
    "later": {"taken": "2025-01-01T00:00:00", "camera": 'say "x"', "size": 3, "width": 50},
    "scan": {"size": 0, "width": 60, "folder": "scans/old"},
}
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: Filter, photo: Photo) -> bool:  # noqa: PLR0911 - one for each kind
    """Say what the store promises about a filter, in Python."""
    match condition:
        case Both(parts):
            return all(holds(part, photo) for part in parts)
        case Either(parts):
            return any(holds(part, photo) for part in parts)
        case Without(part):
            return not holds(part, photo)
        case Exists(column):
            return column in photo
        case Below(folder):
            return bool((str(photo.get("folder")) + "/").startswith(folder + "/"))
        case Compare(column, "like", value):
            pattern = re.escape(str(value)).replace("%", ".*").replace("_", ".")
            return bool(re.fullmatch(pattern, photo.get(column, ""), re.IGNORECASE | re.DOTALL))
        case Compare(column, sign, value):
            return column in photo and SIGNS[sign](photo[column], value)
    raise AssertionError(condition)


def found(text: str) -> set[str]:
    return {name for name, photo in PHOTOS.items() if holds(parse_where(text), photo)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("taken >= 2024 and camera like '%Nikon%'", {"new year", "may"}),
        ("taken = 2024", {"new year", "may", "summer"}),
        ("taken != 2024", {"old", "later"}),
        ("taken < 2024", {"old"}),
        ("taken > 2024", {"later"}),
        ("taken <= 2024", {"old", "new year", "may", "summer"}),
        ("taken = 2024-05", {"may"}),
        ("taken = '2024-05'", {"may"}),
        ("taken <= 2024-05-07", {"old", "new year", "may"}),
        ("taken = 2024-05-07 10:30", {"may"}),
        ("taken > 2024-05-07T10:30:15", {"summer", "later"}),
        ("taken between 2024-01-01 and 2024-05", {"new year", "may"}),
        ("taken is null", {"scan"}),
        ("latitude is not null", {"summer"}),
        ("latitude < -33", {"summer"}),
        ("size = 2MB", {"may"}),
        ("size >= 2 MiB", {"summer"}),
        ("size = 1kB", {"new year"}),
        ("camera = 'Nikon''s'", {"may"}),
        ('camera = "say ""x"""', {"later"}),
        ("camera in ('Canon EOS', 'NIKON D5')", {"old", "new year"}),
        ("camera not like '%nikon%' and camera is not null", {"old", "later"}),
        ("folder = 'scans'", {"scan"}),
        ("folder != 'scans' and width > 40", {"later"}),
        ("width = 10 or width = 20 and size > 5000", {"old"}),
        ("(width = 10 or width = 20) and size > 950", {"new year"}),
        ("not width > 10 or width = 60", {"old", "scan"}),
        ("not not width = 10", {"old"}),
        ("WIDTH <> 10 AND Width == 60", {"scan"}),
    ],
)
def test_a_condition_finds(text: str, names: set[str]) -> None:
    assert found(text) == names


def test_a_modification_time_is_compared_as_a_moment_of_local_time() -> None:
    start, end = (datetime(2024, 5, day).timestamp() for day in (1, 2))

    assert parse_where("mtime = 2024-05-01") == Both(
        (Compare("mtime", ">=", start), Compare("mtime", "<", end))
    )
    assert parse_where("mtime > 1700000000") == Compare("mtime", ">", 1.7e9)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", 1, "it ends too early"),
        ("taken >=", 9, "expected a date"),
        ("camra = 'x'", 1, "there is no column camra; use path, "),
        ("1=1; drop table images", 1, "'1' does not fit here"),
        ("camera = 'x'; delete from images", 13, "';' does not fit"),
        ("camera = 'x' or 1=1", 17, "expected (, a column, not"),
        ("camera = 'x' --", 14, "'-' does not fit"),
        ("camera = 'x' union select * from models", 14, "'union' does not fit here"),
        ("path like '%' escape '\\'", 15, "'escape' does not fit"),
        ("camera like 'open", 13, "expected a text in quotes"),
        ("camera = Nikon", 10, "'Nikon' does not fit"),
        ("camera = 5", 10, "put 5 in quotes"),
        ("size like '3%'", 1, "size is a number"),
        ("size = '3'", 8, "size is a number"),
        ("width = 3MB", 9, "3MB is none"),
        ("width = 1e999", 9, "does not fit"),
        ("taken > 2024-13", 9, "2024-13 is no date"),
        ("taken = 2023-02-29", 9, "is no date"),
        ("taken = 9999-12-31", 9, "is no date"),
        ("taken = '２０２４'", 9, "is no date"),
        ("mtime = 0001", 9, "is no date"),
        ("folder < 'x'", 10, "a folder is compared by"),
        ("(camera = 'x'", 14, "it ends too early"),
        ("camera = 'x')", 13, "')' does not fit"),
    ],
)
def test_what_is_no_condition_is_refused_at_its_place(text: str, place: int, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as refused:
        parse_where(text)

    head, line, mark = str(refused.value).split("\n")
    assert head.startswith(f"--where, character {place}: ")
    assert line == f"  {text}"
    assert mark.index("^") == place + 1


def test_a_condition_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="keep it below"):
        parse_where("(" * (MAX_CHARACTERS + 1))
    with pytest.raises(ConfigError, match="ends too early"):
        parse_where("(" * MAX_CHARACTERS)


@given(st.text())
def test_any_text_is_a_condition_or_refused_in_three_lines(text: str) -> None:
    try:
        parse_where(text)
        message = "\n\n"
    except ConfigError as refused:
        message = str(refused)
    assert message.count("\n") == 2


@given(st.text())
def test_a_value_in_quotes_stays_as_it_is(value: str) -> None:
    quoted = value.replace("'", "''")

    assert parse_where(f"camera = '{quoted}'") == Compare("camera", "=", value)


def test_dates_of_options_include_both_ends() -> None:
    def names(after: str | None, before: str | None) -> set[str]:
        return {
            name for name, photo in PHOTOS.items() if holds(taken_between(after, before), photo)
        }

    assert names("2024", "2024") == {"new year", "may", "summer"}
    assert names("2024-05-07", None) == {"may", "summer", "later"}
    assert names(None, None) == set(PHOTOS)
    with pytest.raises(ConfigError, match="--before 'yesterday' is no date"):
        taken_between(None, "yesterday")
    assert in_folder("a'b") == Below("a'b")
