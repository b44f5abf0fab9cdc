"""Class names that two data sets, or a data set and a model, write differently.

The exact spelling comes first: two classes of one model are never taken for one. It reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miniclip.arrays import IntArray
from miniclip.errors import DatasetError


def spelling(name: str) -> str:
    """Reduce a class name to what its spellings share, whatever case, underscores and hyphens."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def look_alikes(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the classes that differ by their spelling alone, such as ("Glass", "glass")."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(spelling(name), []).append(name)
    return [tuple(names) for names in alike.values() if len(names) > 1]


def match_names(names: Sequence[str], known: Sequence[str]) -> IntArray:
    """Return for each name the number of the known one that is meant, -1 for none: (N,) int64.

    The very name, or else the one of the same `spelling`. DatasetError for a name that could be
    either of two.
    """
    exact = {name: number for number, name in enumerate(known)}
    spelled: dict[str, list[int]] = {}
    for number, name in enumerate(known):
        spelled.setdefault(spelling(name), []).append(number)
    found = np.full(len(names), -1, dtype=np.int64)
    for place, name in enumerate(names):
        numbers = [exact[name]] if name in exact else spelled.get(spelling(name), [])
        if len(numbers) > 1:
            both = " or ".join(repr(known[number]) for number in numbers)
            raise DatasetError(f"the class {name!r} could be {both}; spell it as one of them")
        if numbers:
            found[place] = numbers[0]
    return found
