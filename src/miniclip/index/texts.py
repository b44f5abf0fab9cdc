"""Read a file of sentences, one a line."""

from __future__ import annotations

from pathlib import Path

from miniclip.errors import DatasetError


def read_texts(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, stripped, without blank ones; DatasetError if none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError(
            f"cannot read the texts file {path}: {error.strerror or error}; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the texts file {path} is not UTF-8 text; save it as UTF-8") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DatasetError(f"{path} holds no texts; write one sentence per line")
    return texts
