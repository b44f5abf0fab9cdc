"""The options of `miniclip fit`, so that the verb itself can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder per class; folders train, val, test of such; or a CSV with the columns "
        "path and label.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="MODEL",
        help="Directory of the model. Default: DATA's name and -model, here.",
        show_default=False,
    ),
]
Head = Annotated[
    str,
    typer.Option(
        help="kernel, logistic, svm, prototype, knn, zeroshot, blend, or mlp (needs [train])."
    ),
]
Folds = Annotated[int, typer.Option(min=2, help="How many folds are held out in turn.")]
Views = Annotated[
    str,
    typer.Option(help="Ways to look at each image: plain, flip, crops, tiles, with commas."),
]
TargetError = Annotated[
    float,
    typer.Option(help="How often a decision without a person may be wrong, such as 0.01."),
]
Alpha = Annotated[float, typer.Option(help="How often a prediction set may miss the true label.")]
Sets = Annotated[
    str, typer.Option(help="Kind of prediction sets: lac, aps, raps, aps-whole, raps-whole.")
]
PerClassSets = Annotated[
    bool, typer.Option("--per-class-sets", help="Keep the promise of the sets for each class.")
]
Preset = Annotated[
    str | None, typer.Option(help="Of the mlp head: baseline or robust.", show_default=False)
]
ComparePresets = Annotated[
    bool, typer.Option("--compare-presets", help="Train both presets too; show their curves.")
]
Compare = Annotated[
    list[str] | None,
    typer.Option(metavar="HEAD", help="Compare with another head too; may be repeated."),
]
Unfreeze = Annotated[
    str | None,
    typer.Option(
        metavar="N|all",
        help="Train the last N blocks of the encoder too, or all (needs [train]; hours).",
        show_default=False,
    ),
]
Tower = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|SOURCE",
        help="With --unfreeze: what the encoder was made from, where its bundle does not say.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the head (c=1), of an MLP (mlp.epochs=100) or of --unfreeze "
        "(finetune.epochs=10); may be repeated.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")]
CopyBundle = Annotated[
    bool, typer.Option("--copy-bundle", help="Put a copy of the encoder into the model.")
]
