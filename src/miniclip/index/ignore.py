"""Which files an index leaves out: patterns in the syntax of .gitignore. It reads no image.

The patterns stand in a file `.miniclipignore` in the indexed folder, or come from the command line;
the package `pathspec` knows what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pathspec import GitIgnoreSpec

from miniclip.errors import ConfigError

IGNORE_FILE = ".miniclipignore"


@dataclass(frozen=True)
class Ignored:
    """The patterns of one indexed folder."""

    root: Path
    spec: GitIgnoreSpec

    @classmethod
    def of(cls, root: Path, patterns: Sequence[str] = ()) -> Self:
        """Read the folder's own file, if it has one; `patterns` come after it, so they win.

        ConfigError for a file that cannot be read and for a pattern that means nothing.
        """
        file = root / IGNORE_FILE
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read {file} ({error}); save it as UTF-8 text that you may read"
            ) from error
        try:
            return cls(root, GitIgnoreSpec.from_lines([*lines, *patterns]))
        except ValueError as error:
            raise ConfigError(
                f"a pattern of {file} or of --ignore has no meaning ({error}); write it as in a "
                ".gitignore, such as 'drafts/' or '*.png'"
            ) from error

    def __call__(self, path: Path, is_folder: bool) -> bool:
        """Say whether a file or folder below the root is left out; nothing below such a folder is.

        Paths outside the root are never left out.
        """
        if not self.spec.patterns or not path.is_relative_to(self.root):
            return False
        name = path.relative_to(self.root).as_posix()
        return self.spec.match_file(f"{name}/" if is_folder else name)
