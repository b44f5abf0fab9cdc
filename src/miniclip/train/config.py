"""From a TOML file and overrides to a `Recipe`; a key that nobody reads is refused by name.

What the keys mean is said in `recipe`, how values are checked in `settings`. It opens no data and
builds no model.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miniclip.errors import ConfigError
from miniclip.settings import build, parse_override, put
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
        put(content, _ROOT_KEY, root)
    for override in overrides:
        key, value = parse_override(override)
        put(content, key, value)
    return recipe_from_dict(content)


def recipe_from_dict(content: Mapping[str, Any]) -> Recipe:
    """Build a recipe of plain values, as read from TOML or JSON. ConfigError as `read_recipe`."""
    return build(Recipe, content)


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


def _flat(content: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{where}{key}.")
        else:
            flat[where + key] = value
    return flat
