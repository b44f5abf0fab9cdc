"""The word lists that ship with the package: sentences about everything, and names for groups."""

from __future__ import annotations

from importlib.resources import files


def _read(name: str) -> tuple[str, ...]:
    lines = files("miniclip.index").joinpath("words", name).read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


BACKGROUND = _read("background.txt")
VOCABULARY = _read("vocabulary.txt")
