"""What every verb does with its streams: the result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from miniclip.errors import MissingExtraError
from miniclip.safe_text import one_line

if TYPE_CHECKING:
    from miniclip.embed import Skipped

StartBar = Callable[[str, int | None], Callable[[int], None]]

SHOWN_REASONS = 10
TRAINING_MODULES = (
    "filelock",
    "lightning",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorboard",
    "torch",
    "transformers",
)


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object, ASCII, so that any file name survives any terminal."""
    print(json.dumps(result, allow_nan=False))


def print_line(text: str) -> None:
    """Print one line of a result; a name in it is shown, whatever it would do to a terminal."""
    print(one_line(text))


def warn_skipped(
    skipped: Sequence[Skipped], total: int, *, strict: bool, what: str = "images"
) -> None:
    """Count what was skipped on stderr and name the first; with `strict`, exit with 1."""
    if not skipped:
        return
    warn(f"{len(skipped)} of {total} {what} were skipped:")
    for entry in skipped[:SHOWN_REASONS]:
        print(one_line(f"  {entry.name}: {entry.reason}"), file=sys.stderr)
    if len(skipped) > SHOWN_REASONS:
        print(f"  ... and {len(skipped) - SHOWN_REASONS} more; --json lists all", file=sys.stderr)
    if strict:
        raise typer.Exit(1)


def warn(message: str) -> None:
    """Say something on stderr that does not stop the work."""
    print(one_line(f"warning: {message}"), file=sys.stderr)


def note(message: str) -> None:
    """Say on stderr what was done beside the result."""
    print(one_line(message), file=sys.stderr)


def command_line() -> str:
    """Return the command that runs now, as one would type it."""
    return shlex.join(["miniclip", *sys.argv[1:]])


def can_train() -> bool:
    """Whether all that training imports is installed."""
    return all(map(find_spec, TRAINING_MODULES))


def require_training(feature: str) -> None:
    """Raise MissingExtraError unless all that training imports is installed."""
    if not can_train():
        raise MissingExtraError(feature, "train")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number done so far; a bar on stderr if it is a terminal."""
    with progress_bars() as start:
        yield start(what, total)


@contextmanager
def progress_bars() -> Iterator[StartBar]:
    """Yield a function that starts a bar, of so many or an unknown number, as `progress_bar`."""
    if not sys.stderr.isatty():
        yield lambda _what, _total: lambda _done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def start(what: str, total: int | None) -> Callable[[int], None]:
            task = bars.add_task(what, total=total)
            return lambda done: bars.update(task, completed=done)

        yield start
