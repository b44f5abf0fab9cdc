"""Wait until something happens below folders; needs miniclip[watch]. What happened, `sync` finds.

The package watchfiles asks the operating system. Network drives tell it nothing of what others
write: there the environment variable WATCHFILES_FORCE_POLLING=1 makes it look by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

from miniclip.errors import DatasetError, MissingExtraError
from miniclip.index.ignore import IGNORE_FILE

QUIET_MS = 500  # a burst of changes, such as a copied folder, is over when this long is silent
PATIENCE_MS = 10_000  # but never waits longer than this for its end


def changes(roots: Sequence[Path], *, stop: Event | None = None) -> Iterator[int]:
    """Yield the number of changes after each burst of them, until `stop` is set, or for ever.

    Hidden files and folders do not count, so an index may lie inside a root. Returns on Ctrl-C.
    Raises DatasetError for a root that is missing, MissingExtraError without watchfiles.
    """
    try:
        from watchfiles import Change, watch  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingExtraError("Watching folders", "watch") from error

    def counts(_change: Change, path: str) -> bool:
        root = next((root for root in roots if Path(path).is_relative_to(root)), Path())
        parts = Path(path).relative_to(root).parts
        return not any(part.startswith(".") and part != IGNORE_FILE for part in parts)

    try:
        for burst in watch(
            *roots,
            watch_filter=counts,
            step=QUIET_MS,
            debounce=PATIENCE_MS,
            stop_event=stop,
        ):
            yield len(burst)
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise DatasetError(
            f"cannot watch {', '.join(map(str, roots))} ({error.strerror or error}); check that "
            "the folders exist, and that the system's limit of watches is not reached"
        ) from error
