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
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        help="The index, wherever it lies: milvus:FILE.db, milvus:http://HOST:19530#NAME or a "
        "directory.",
        show_default=False,
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="What runs the model: onnxruntime, openvino or openvino-float32. Default: the "
        "environment variable MINICLIP_RUNTIME, else onnxruntime.",
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
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", metavar="NAME", help="Column or JSON key of the image's path."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", metavar="NAME", help="Column of the label in a table."),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        "--group-column", metavar="NAME", help="Column of a table; its images stay together."
    ),
]
GroupRegex = Annotated[
    str | None,
    typer.Option(
        "--group-regex",
        metavar="REGEX",
        help="Images in whose file name it matches the same text stay together: '(patient\\d+)'.",
    ),
]
SplitColumn = Annotated[
    str | None,
    typer.Option("--split-column", metavar="NAME", help="Column that says train, val or test."),
]
Captions = Annotated[
    Path,
    typer.Option(
        "--captions",
        metavar="FILE",
        help="Flickr8k tokens, CSV or TSV, COCO JSON, JSON lines, Parquet or tar shards.",
        show_default=False,
    ),
]
CaptionSplit = Annotated[
    Path | None,
    typer.Option("--split", metavar="FILE", help="Use only the images named here, one a line."),
]
CaptionFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format of the captions, where their content misleads: flickr, table, coco, "
        "jsonl, parquet or webdataset.",
    ),
]
CaptionColumn = Annotated[
    str | None,
    typer.Option("--caption-column", metavar="NAME", help="Column or JSON key of the caption."),
]
