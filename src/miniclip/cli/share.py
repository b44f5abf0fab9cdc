"""`miniclip share`: write a model so that other people's programs load it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import MissingExtraError


def share(
    source: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|RUN",
            help="An installed model, a bundle directory, or the directory of a run.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="DIR", help="New directory to write.", show_default=False
        ),
    ],
    json: options.Json = False,
) -> None:
    """Write a model for other programs: graphs for transformers.js and onnxruntime, and a card.

    A run whose towers, pooling and heads allow it is also written as a VisionTextDualEncoder of
    transformers. Needs miniclip[pull], for a run miniclip[train].
    """
    if os.path.isfile(Path(source) / "recipe.json"):
        output.require_training("Share")
        from miniclip.train.export.share import share_run

        shared = share_run(Path(source), out)
    else:
        if not find_spec("onnx"):
            raise MissingExtraError("Share", "pull")
        from miniclip.bundle import Bundle
        from miniclip.share.write import share_bundle

        shared = share_bundle(Bundle.resolve(source), out)
    if json:
        output.print_json(shared.to_dict())
        return
    for name, size in shared.files.items():
        print(f"{size / 1e6:9.2f} MB  {shared.directory / name}")
    if shared.reason:
        output.note(f"not written as a VisionTextDualEncoder: {shared.reason}")
