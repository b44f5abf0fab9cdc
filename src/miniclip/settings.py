"""From plain values and KEY=VALUE overrides to frozen dataclasses; unknown keys are refused.

It knows no settings of its own: what keys there are, and their ranges, the dataclasses say.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from miniclip.errors import ConfigError

_T = TypeVar("_T")


def overridden(settings: _T, overrides: Sequence[str], where: str = "") -> _T:
    """Return a frozen dataclass with some values changed, each as "key=value" or "a.b=value".

    where: what its keys are called in messages, with a final dot. ConfigError as `build`.
    """
    content = asdict(settings)  # type: ignore[call-overload]
    for override in overrides:
        put(content, *parse_override(override))
    return build(type(settings), content, where)


def parse_override(override: str) -> tuple[str, Any]:
    """Read "loss.scale=20": its dotted key, and its value as TOML, else as a bare string."""
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ConfigError(f"override {override!r} is no KEY=VALUE, such as train.batch=128")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested tables, making sections that are not there."""
    *sections, last = key.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key} cannot be set, for {section} is no section")
    place[last] = value


def build(kind: type[_T], content: Any, where: str = "") -> _T:
    """Build a frozen dataclass of a table of plain values; nested ones of nested tables.

    where: its dotted name with a final dot, or empty. Ints pass for floats, lists for tuples.
    ConfigError names the key that is unknown, missing or ill-typed.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where.rstrip('.')} is {content!r}, but must be a section with keys")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            raise ConfigError(f"unknown key {where}{key}; {_suggestion(key, known, where)}")
    missing = [
        name
        for name, entry in known.items()
        if name not in content and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"the configuration does not say {where}{missing[0]}; add it")
    return kind(**{key: _value(hints[key], content[key], where + key) for key in content})


def _suggestion(key: str, known: Mapping[str, object], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {where}{near[0]}?"
    return f"choose one of {', '.join(known)}"


def _value(kind: Any, value: Any, key: str) -> Any:
    """Check one value against its annotation; ints pass for floats, lists for tuples."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return build(cast(type[Any], kind), value, f"{key}.")
    if origin in (Union, types.UnionType):  # of something and None
        (inner,) = (entry for entry in arguments if entry is not types.NoneType)
        return None if value is None else _value(inner, value, key)
    if origin is tuple:
        return _items(arguments, value, key)
    if origin is Literal:
        if value not in arguments:
            known = ", ".join(map(str, arguments))
            raise ConfigError(f"{key} is {value!r}; choose one of {known}")
    elif type(value) is not kind and (kind, type(value)) != (float, int):
        raise ConfigError(
            f"{key} is {value!r} of type {type(value).__name__}, but must be {kind.__name__}"
        )
    return float(value) if kind is float else value


def _items(kinds: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} is {value!r}, but must be a list")
    repeated = kinds[-1] is Ellipsis
    if not repeated and len(value) != len(kinds):
        raise ConfigError(f"{key} has {len(value)} values, but must have {len(kinds)}")
    each = [kinds[0]] * len(value) if repeated else list(kinds)
    return tuple(
        _value(kind, item, f"{key}[{place}]")
        for place, (kind, item) in enumerate(zip(each, value, strict=True))
    )
