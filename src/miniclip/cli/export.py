"""`miniclip export`: turn a training run into a bundle. Needs the optional packages [train]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Directory of a run.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="BUNDLE",
            help="Bundle directory to write.",
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Turn a training run into a bundle.

    Refuses when the exported graphs differ from the trained model. Needs miniclip[train].
    """
    output.require("torch", feature="Export", extra="train")
    from miniclip.train.export import export_run

    bundle = export_run(run, out)
    if json:
        output.print_json({"bundle": str(bundle.directory), "name": bundle.name})
    else:
        print(f"{bundle.directory}: {bundle.size_bytes / 1e6:.1f} MB")
