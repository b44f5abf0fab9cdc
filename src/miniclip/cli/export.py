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
    full_weights: Annotated[
        bool,
        typer.Option("--full-weights", help="Keep float32 weights; needs no dev data."),
    ] = False,
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="Model card to put into the bundle."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Turn a training run into a bundle.

    Refuses when the exported graphs differ from the trained model. Needs miniclip[train].
    """
    output.require_training("Export")
    from miniclip.train.export.run import export_run

    bundle = export_run(run, out, full_weights=full_weights, card=card)
    if json:
        output.print_json(
            {
                "bundle": bundle.name,
                "output": str(bundle.directory),
                "size_bytes": bundle.size_bytes,
                **bundle.manifest.to_dict(),
            }
        )
    else:
        print(f"{bundle.directory}: {bundle.size_bytes / 1e6:.1f} MB")
