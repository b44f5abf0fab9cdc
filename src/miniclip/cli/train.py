"""`miniclip train`: train a two-tower model from a recipe. Needs the optional packages [train]."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="RUN", help="Directory of the run.", show_default=False
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change one value of the recipe; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in that directory stopped.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train a model from a recipe.

    The run directory holds checkpoints, curves and results. Needs miniclip[train].
    """
    output.require_training("Training")
    from miniclip.train.run import is_first_process
    from miniclip.train.run import train as train_recipe

    logging.getLogger("miniclip").setLevel(logging.INFO)  # a run that takes hours says where it is
    result = train_recipe(recipe, overrides or [], out, resume=resume)
    if not is_first_process():  # of several devices
        return
    if json:
        output.print_json(result.to_dict())
    else:
        print(result)
