"""Silence Python warnings in one thread only; errors and logging are not touched."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _QuietThread(threading.local):
    """Stands where a warning filter holds its module pattern; matches in quiet threads alone."""

    quiet = False
    pattern = "(?!)"  # for those who copy filters to threads of their own: it matches nothing there

    def match(self, _module: str) -> bool:
        return self.quiet


_HERE = _QuietThread()
_FILTER: Any = ("ignore", None, Warning, _HERE, 0)
_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop every warning that this thread raises inside the block, whatever the filters say.

    `warnings.catch_warnings` swaps the filters of the whole process, so that two decoding threads
    would restore each other's. Here one filter stays in place and looks at the asking thread.
    """
    if warnings.filters[0] is not _FILTER:  # a catch_warnings of the caller may have moved it
        with _LOCK:
            filters: list[Any] = warnings.filters  # type: ignore[assignment]
            filters[:] = [_FILTER, *(entry for entry in filters if entry is not _FILTER)]
    before, _HERE.quiet = _HERE.quiet, True
    try:
        yield
    finally:
        _HERE.quiet = before
