"""`miniclip evaluate`: how good a model is at retrieval and at zero-shot classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.evaluate.retrieval import RetrievalResult
    from miniclip.evaluate.zeroshot import ZeroShotResult

app = typer.Typer(
    name="evaluate",
    help="Measure a model on your own data, with 95 % intervals.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", metavar="NAME", help="Column or JSON key of the image's path."),
]


@app.command()
def retrieval(
    images: Annotated[
        Path,
        typer.Option("--images", metavar="DIR", help="Folder of the images.", show_default=False),
    ],
    captions: Annotated[
        Path,
        typer.Option(
            "--captions",
            metavar="FILE",
            help="Flickr8k tokens, CSV or TSV, COCO JSON, JSON lines, Parquet or tar shards.",
            show_default=False,
        ),
    ],
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="Use only the images named here, one a line."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of the captions, where their content misleads: flickr, table, coco, "
            "jsonl, parquet or webdataset.",
        ),
    ] = None,
    image_column: ImageColumn = None,
    caption_column: Annotated[
        str | None,
        typer.Option("--caption-column", metavar="NAME", help="Column or JSON key of the caption."),
    ] = None,
    bundle: options.Bundle = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure how well sentences and images find each other.

    Recall@1, @5 and @10, median rank and mean reciprocal rank, in both directions.
    """
    from miniclip import load_encoder
    from miniclip.datasets.captions import read_captions
    from miniclip.evaluate.retrieval import evaluate_retrieval

    caption_set = read_captions(
        captions,
        images,
        split,
        format=format,
        image_column=image_column,
        caption_column=caption_column,
    )
    encoder = load_encoder(bundle)
    with output.progress_bar("embedding", len(caption_set)) as progress:
        result = evaluate_retrieval(encoder, caption_set, progress=progress)
    _show(result, encoder.name, len(caption_set) + len(caption_set.skipped), strict, json)


@app.command()
def zeroshot(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR|TABLE",
            help="A folder per class, or a CSV with the columns path and label.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="What a class is called: folder<TAB>name, one a line."
        ),
    ] = None,
    image_column: ImageColumn = None,
    label_column: Annotated[
        str | None,
        typer.Option("--label-column", metavar="NAME", help="Column of the label in a table."),
    ] = None,
    templates: options.Templates = None,
    bundle: options.Bundle = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure how often the right class name wins, untrained."""
    from miniclip import load_encoder
    from miniclip.datasets.folders import read_labelled
    from miniclip.evaluate.zeroshot import evaluate_zeroshot
    from miniclip.prompts import DEFAULT_TEMPLATES, read_templates

    labelled = read_labelled(data, labels, image_column=image_column, label_column=label_column)
    sentences = read_templates(templates) if templates else DEFAULT_TEMPLATES
    encoder = load_encoder(bundle)
    with output.progress_bar("embedding", len(labelled)) as progress:
        result = evaluate_zeroshot(encoder, labelled, sentences, progress=progress)
    _show(result, encoder.name, len(labelled) + len(labelled.skipped), strict, json)


def _show(
    result: RetrievalResult | ZeroShotResult, bundle: str, total: int, strict: bool, json: bool
) -> None:
    if json:
        output.print_json({"bundle": bundle, **result.to_dict()})
    else:
        print(result)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")
