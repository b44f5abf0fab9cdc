"""`Document`: one JSON object of a checkpoint, whose keys are asked for by name and never guessed.

What the keys mean is the business of those who ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from miniclip.errors import BundleError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Document:
    """A table of settings and where it stands, such as "config.json: text_config"."""

    where: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. BundleError when it is absent or holds no JSON object."""
        found = cls.read_if_there(path)
        if found is None:
            raise BundleError(
                f"{path.parent} has no {path.name}; put the one of the original model beside the "
                "weights"
            )
        return found

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """Read a file; None when there is none. BundleError when it holds no JSON object."""
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{path} is no readable JSON ({error}); repair or fetch it again"
            ) from error
        if not isinstance(values, dict):
            raise BundleError(f"{path} holds {type(values).__name__}; it must hold a JSON object")
        return cls(path.name, values)

    def says(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def need(self, key: str) -> Any:
        """Return a value. BundleError when it is missing or null."""
        if not self.says(key):
            raise BundleError(
                f"{self.where} does not say {key!r}; add it from the original model's file"
            )
        return self.values[key]

    def need_as(self, key: str, kind: type[Kind]) -> Kind:
        """Return a value of one type; True is no int, and an int is a float."""
        value = self.need(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.foreign(key, f"a value of type {kind.__name__}")
        return value

    def part(self, key: str) -> Document:
        """Return a table within the table. BundleError when it is missing or something else."""
        value = self.need(key)
        if not isinstance(value, dict):
            raise self.foreign(key, "a table")
        return Document(f"{self.where}: {key}", value)

    def foreign(self, key: str, wanted: str) -> BundleError:
        """Make the refusal of a value."""
        return BundleError(
            f"{self.where} says {key} = {self.values.get(key)!r}, but only {wanted} can be "
            "reproduced here; correct the file, or choose another checkpoint"
        )

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Refuse a key that nobody reads, unless it is null: it may change what a model sees."""
        for key in sorted(set(self.values) - set(known)):
            if self.says(key):
                raise BundleError(
                    f"{self.where} says {key} = {self.values[key]!r}, which is not known here; "
                    "remove the key if it changes nothing, or choose another checkpoint"
                )
