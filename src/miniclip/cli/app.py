"""The `miniclip` command: its verbs, and the one place where an error becomes an exit code.

Exit codes: 0 fine, 1 bad input (`error: ...` on stderr), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from miniclip import __version__
from miniclip.cli import (
    audit,
    copy,
    demo,
    duplicates,
    embed,
    evaluate,
    export,
    match,
    models,
    search,
    share,
    train,
    transfer,
)
from miniclip.cli import classify as classify_verb
from miniclip.cli import explain as explain_verb
from miniclip.cli import fit as fit_verb
from miniclip.cli import index as index_verb
from miniclip.cli import map as map_verb
from miniclip.cli import predict as predict_verb
from miniclip.cli import pull as pull_verb
from miniclip.cli import quantize as quantize_verb
from miniclip.cli import robustness as robustness_verb
from miniclip.cli import serve as serve_verb
from miniclip.errors import MiniClipError
from miniclip.safe_text import one_line

app = typer.Typer(
    name="miniclip",
    help="Search, name and classify images with words; fit classifiers; train a CLIP of your own.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(index_verb.index)
app.command()(copy.copy)
app.command()(search.search)
app.command()(match.match)
app.command()(duplicates.duplicates)
app.command("map")(map_verb.collection_map)
app.command()(classify_verb.classify)
app.command()(embed.embed)
app.command()(fit_verb.fit)
app.command()(predict_verb.predict)
app.command()(explain_verb.explain)
app.command()(transfer.transfer)
app.command()(train.train)
app.add_typer(evaluate.app)
app.add_typer(audit.app)
app.command()(robustness_verb.robustness)
app.command()(export.export)
app.command()(pull_verb.pull)
app.command()(share.share)
app.command()(quantize_verb.quantize)
app.command()(serve_verb.serve)
app.command()(models.models)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"miniclip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; arguments default to those of the process."""
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app(arguments)
    except MiniClipError as error:
        for line in f"error: {error}".split("\n"):  # some mark a place in the line above
            print(one_line(line), file=sys.stderr)
        raise SystemExit(1) from None
