"""Safe decode of anything that claims to be an image; it resizes nothing and runs no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from miniclip.errors import ConfigError

MAX_PIXELS = 178_956_970  # where Pillow, too, refuses to go on: 0.5 GiB of RGB


@dataclass(frozen=True)
class ImageSource:
    """An image that is not decoded yet: a file, or bytes with a name. Exactly one of the two.

    name: what people see in results and in lists of skipped images.
    """

    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            raise ConfigError(
                f"image source {self.name!r} has {'both' if self.path else 'neither'} path and "
                "data; give exactly one"
            )

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the source for a file, named by its path."""
        return cls(name=str(path), path=path)
