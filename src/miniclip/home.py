"""Where this package keeps what it makes: data (bundles, indexes) and caches, per user.

The places are those of the operating system (platformdirs) unless the environment variable
MINICLIP_HOME names one directory for everything. It decides on places only and stores nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from miniclip.errors import StoreError

HOME_VARIABLE = "MINICLIP_HOME"


def data_dir(*, create: bool = True) -> Path:
    """Return the directory of what should last (bundles, indexes), made on demand.

    StoreError when it cannot be made.
    """
    home = _home()
    place = home if home else platformdirs.user_data_path("miniclip", appauthor=False)
    return _made(place) if create else place


def cache_dir(*, create: bool = True) -> Path:
    """Return the directory of what can be computed again, made on demand.

    StoreError when it cannot be made.
    """
    home = _home()
    place = home / "cache" if home else platformdirs.user_cache_path("miniclip", appauthor=False)
    return _made(place) if create else place


def _home() -> Path | None:
    value = os.environ.get(HOME_VARIABLE)
    return Path(os.path.expanduser(value)).absolute() if value else None


def _made(place: Path) -> Path:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the directory {place} ({error.strerror}); "
            f"set {HOME_VARIABLE} to a directory that you may write to"
        ) from error
    return place
