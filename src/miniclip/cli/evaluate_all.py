"""`miniclip evaluate all`: bundles x data sets x tasks, resumable, as tables and a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import StoreError

if TYPE_CHECKING:
    from miniclip.bundle_encoder import BundleEncoder
    from miniclip.evaluate.matrix_config import BundleEntry

Config = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG.toml",
        help="Bundles, data sets and settings; paths are relative to this file.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Where results.jsonl, results.md and results.html go. Cells that stand there already "
        "are not run again.",
        show_default=False,
    ),
]


def evaluate_all(
    config: Config,
    out: Out,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure bundles on data sets at tasks, and say which is better.

    Retrieval, zero-shot, linear probe and few-shot by the CLIP paper's protocol, and agreement with
    human judgements of captions. A cell that fails is named, the others go on, and the exit code
    is 1.
    """
    from miniclip.evaluate.matrix import run_matrix
    from miniclip.evaluate.matrix_config import read_matrix
    from miniclip.index.vector_cache import VectorCache
    from miniclip.report.matrix import write_matrix_report
    from miniclip.runtimes import load_encoder

    read = read_matrix(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {out} ({error.strerror}); choose another folder") from error

    def open_bundle(entry: BundleEntry) -> BundleEncoder:
        beside = config.parent / entry.bundle if entry.bundle else None
        found = beside if beside and beside.is_dir() else entry.bundle
        return load_encoder(found, runtime=runtime)

    with VectorCache.open() as cache, output.progress_bars() as start:
        result = run_matrix(
            read, cache, open_bundle, folder=config.parent, out=out, watch=_Watch(start)
        )
    write_matrix_report(out, result, command=output.command_line())
    if json:
        output.print_json(result.to_dict())
    else:
        print(result)
        output.note(f"wrote {out / 'results.jsonl'}, results.md and results.html")
    if result.failed:
        raise typer.Exit(1)
    images = [one for cell in result.cells if cell.result for one in cell.result.skipped]
    skipped = list(dict.fromkeys(images))
    output.warn_skipped(skipped, len(skipped), strict=strict, what="images or rows left out")


class _Watch:
    """Bars and lines on stderr."""

    def __init__(self, start: output.StartBar) -> None:
        self._start = start

    def embedding(self, what: str, total: int) -> Callable[[int], None]:
        return self._start(what, total)

    def say(self, message: str) -> None:
        output.note(message)
