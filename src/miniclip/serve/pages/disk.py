"""What the pages have on the disk: uploads, and pictures on their way to the browser.

One folder of this process, that nobody else may read and that goes with it. gradio learns of it,
as of all its settings that matter here, through the environment.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from miniclip.atomic import replacing

KEPT_SECONDS = 3600  # that a file stays at least
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",  # nothing leaves this machine
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(1 << 62),  # nobody asks how long each call took
}


def prepare() -> Path:
    """Return the folder; called before gradio is imported, and by whoever puts a file there."""
    os.environ |= _SETTINGS
    return Path(_folder().name).resolve()


def keep(data: bytes, name: str) -> str:
    """Write a file that the browser may fetch and return its path.

    name: what it is called when it is saved; anything but letters, digits and "-_. " is left out.
    """
    folder = prepare() / hashlib.sha256(data).hexdigest()
    folder.mkdir(exist_ok=True)
    safe = "".join(letter for letter in name if letter.isalnum() or letter in "-_. ").strip(". ")
    path = folder / (safe[-100:] or "file")
    if path.exists():
        path.touch()
    else:
        with replacing(path) as stream:
            stream.write(data)
    return str(path)


def is_kept(path: str) -> bool:
    """Whether a path that a browser names is a file of this folder."""
    folder = prepare()
    return Path(os.path.normpath(path)).is_relative_to(folder) and "\0" not in path


def has_room(most: int) -> bool:
    """Whether less than so many bytes are kept, once what is old is gone.

    gradio deletes what it knows of; not what an upload left behind that broke off.
    """
    total, old = 0, time.time() - KEPT_SECONDS
    for place, _, names in os.walk(prepare()):
        for name in names:
            path = Path(place, name)
            try:
                facts = path.stat()
                if facts.st_mtime < old:
                    path.unlink()
                else:
                    total += facts.st_size
            except OSError:
                continue  # it was deleted meanwhile
    return total < most


@cache
def _folder() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="miniclip-pages-", ignore_cleanup_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder.name).resolve())
    return folder
