"""What the pages have on the disk: uploads, and pictures on their way to the browser.

One folder of this process, that nobody else may read and that goes with it. gradio learns of it,
as of all its settings that matter here, through the environment.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from miniclip.atomic import replacing

KEPT_SECONDS = 3600  # that a file stays at least


def prepare() -> Path:
    """Return the folder; called before gradio is imported, and by whoever puts a file there."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine
    return Path(_folder().name).resolve()


def keep(data: bytes, name: str) -> str:
    """Write a file that the browser may fetch and return its path.

    name: what it is called when it is saved; anything but letters, digits and "-_. " is left out.
    """
    folder = prepare() / hashlib.sha256(data).hexdigest()
    folder.mkdir(exist_ok=True)
    safe = "".join(letter for letter in name if letter.isalnum() or letter in "-_. ").strip(". ")
    path = folder / (safe[-100:] or "file")
    if not path.exists():
        with replacing(path) as stream:
            stream.write(data)
    return str(path)


def is_kept(path: str) -> bool:
    """Whether a path that a browser names is a file of this folder."""
    folder = prepare()
    return Path(os.path.normpath(path)).is_relative_to(folder) and "\0" not in path


def kept_bytes() -> int:
    """Return how many bytes there are."""
    total = 0
    for place, _, names in os.walk(prepare()):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except OSError:
                continue  # it was deleted meanwhile
    return total


@cache
def _folder() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="miniclip-pages-", ignore_cleanup_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder.name).resolve())
    return folder
