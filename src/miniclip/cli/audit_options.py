"""Options of `miniclip audit`, apart from those that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")]
Seed = Annotated[int, typer.Option(min=0, help="Of bootstraps and permutations.")]


def _set(letter: str, what: str) -> Any:
    return typer.Option(f"--{letter}", metavar="FILE|DIR", help=what, show_default=False)


SetX = Annotated[Path, _set("x", "Targets: a text file, one a line, or a folder of images.")]
SetY = Annotated[Path, _set("y", "The targets to compare them with.")]
SetA = Annotated[Path, _set("a", "Attributes: a text file or a folder of images.")]
SetB = Annotated[Path, _set("b", "The attributes to compare them with.")]

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Labelled images: a folder per class, or a CSV with path and label. Those of the "
        "fit are judged by their held-out answers.",
        show_default=False,
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="What tells the subgroups apart: a column of --metadata, folder:1, exif:camera, "
        "exif:year, file:format, file:pixels, dicom:Manufacturer, ...; may be repeated.",
    ),
]
Metadata = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        metavar="FILE",
        help="CSV or TSV with a path and the columns. Default: DATA, if that is a table.",
    ),
]
Discover = Annotated[
    int,
    typer.Option(
        "--discover", min=0, metavar="K", help="Also audit K clusters of images of like looks."
    ),
]
AtLeast = Annotated[
    int,
    typer.Option(
        "--at-least", min=2, metavar="N", help="Compare subgroups of so many images or more."
    ),
]
ModelCard = Annotated[
    Path | None,
    typer.Option("--card", metavar="FILE", help="Write the model's card with these figures."),
]
SkipUnknown = Annotated[
    bool,
    typer.Option("--skip-unknown", help="Skip images of classes that the model does not know."),
]
Template = Annotated[
    str,
    typer.Option("--template", metavar="TEXT", help="Sentence with {} for each word."),
]
Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="A folder of images.", show_default=False),
]
Strip = Annotated[
    Path | None,
    typer.Option(
        "--strip",
        metavar="OUT",
        help="Also write copies without what they tell of people to OUT; pixels stay as "
        "stored, originals are not touched.",
    ),
]
DataCard = Annotated[
    Path | None, typer.Option("--card", metavar="FILE", help="Also write a data card.")
]
