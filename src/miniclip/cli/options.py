"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="NAME|DIR",
        help="Model: an installed name or a bundle directory. Default: the environment variable "
        "MINICLIP_BUNDLE, else the model that ships with miniclip.",
        show_default=False,
    ),
]
IndexDirectory = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="Where the index lies. Default: .miniclip inside the folder, or the user's data "
        "directory for several folders or one that may not be written to.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when a file was skipped.")]
Top = Annotated[int, typer.Option("--top", min=1, metavar="K", help="How many results to show.")]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        metavar="FILE",
        help="Sentences with {} for the label, one a line. Default: a general set for photos.",
        show_default=False,
    ),
]
