"""Text files that people write: what counts as a line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniclip.errors import ConfigError
from miniclip.textfile import read_lines


def test_texts_are_lines_without_blanks(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffa dog\r\n\r\n  # 1 café  \n".encode())

    assert read_lines(path, "texts") == [(1, "a dog"), (3, "# 1 café")]
    assert read_lines(path, "labels", comments=True) == [(1, "a dog")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the texts file"),
        (b"\n \n", "holds no texts"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_unusable_texts_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=message):
        read_lines(path, "texts")
