"""From a TOML file and overrides to a `Recipe`; a key that nobody reads is refused by name.

What the keys mean is said in `recipe`. It opens no data and builds no model.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from miniclip.errors import ConfigError
from miniclip.train.recipe import Recipe

ROOT_VARIABLE = "MINICLIP_DATA"
_ROOT_KEY = "data.root"


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and lay overrides such as "train.batch=128" over it.

    The value of an override is TOML; what is no TOML counts as a bare string. data.root comes from
    an override, else from MINICLIP_DATA, else from the file. ConfigError names what is unreadable,
    unknown, missing or ill-typed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the recipe {path} ({error.strerror}); give the path of a TOML file"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the recipe {path} is no TOML: {error}; correct that line") from error
    root = os.environ.get(ROOT_VARIABLE)
    if root:
        _put(content, _ROOT_KEY, root)
    for override in overrides:
        key, value = _parse_override(override)
        _put(content, key, value)
    return recipe_from_dict(content)


def recipe_from_dict(content: Mapping[str, Any]) -> Recipe:
    """Build a recipe of plain values, as read from TOML or JSON. ConfigError as `read_recipe`."""
    recipe: Recipe = _build(Recipe, content, "")
    return recipe


def recipe_to_json(recipe: Recipe) -> str:
    """Write every setting, defaults included; `recipe_from_dict(json.loads(...))` reads it back."""
    return json.dumps(asdict(recipe), indent=2) + "\n"


def differing_keys(one: Recipe, other: Recipe) -> list[str]:
    """Name the settings that differ and that change what is learned.

    Where the data lies and where the run computes may change between start and resume.
    """
    first, second = _flat(asdict(one)), _flat(asdict(other))
    return [
        key
        for key in first
        if first[key] != second.get(key) and key != _ROOT_KEY and not key.startswith("machine.")
    ]


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ConfigError(f"override {override!r} is no KEY=VALUE, such as train.batch=128")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key} cannot be set, for {section} is no section")
    place[last] = value


def _build(kind: Any, content: Any, where: str) -> Any:
    """Build a dataclass of a table; `where` is its dotted name with a final dot, or empty."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where.rstrip('.')} is {content!r}, but must be a section with keys")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for key in content:
        if key not in known:
            raise ConfigError(f"unknown key {where}{key}; {_suggestion(key, known, where)}")
    missing = [
        name
        for name, entry in known.items()
        if name not in content and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"the recipe does not say {where}{missing[0]}; add it")
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
        return _build(kind, value, f"{key}.")
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


def _flat(content: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{where}{key}.")
        else:
            flat[where + key] = value
    return flat
