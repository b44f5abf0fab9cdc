"""`miniclip evaluate`: how good a model is at retrieval and at classification, fitted or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output
from miniclip.cli.evaluate_all import evaluate_all
from miniclip.cli.evaluate_health import evaluate_health

if TYPE_CHECKING:
    from miniclip.evaluate.classifier import EvaluationResult
    from miniclip.evaluate.retrieval import RetrievalResult
    from miniclip.evaluate.zeroshot import ZeroShotResult

app = typer.Typer(
    name="evaluate",
    help="Measure a model on your own data, with 95 % intervals.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("all")(evaluate_all)
app.command("health")(evaluate_health)


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)]
NewData = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="New labelled images: a folder per class, or a CSV with path and label.",
        show_default=False,
    ),
]
Recalibrate = Annotated[
    int,
    typer.Option(
        "--recalibrate",
        min=0,
        metavar="N",
        help="Fit temperature, sets and threshold anew on N of these images, judge on the others.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="MODEL", help="Write the recalibrated model to a directory."
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a report page.")
]
SkipUnknown = Annotated[
    bool,
    typer.Option("--skip-unknown", help="Skip images of classes that the model does not know."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the images drawn to recalibrate.")]


@app.command()
def retrieval(
    images: Annotated[
        Path,
        typer.Option("--images", metavar="DIR", help="Folder of the images.", show_default=False),
    ],
    captions: options.Captions,
    split: options.CaptionSplit = None,
    format: options.CaptionFormat = None,
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    html: Html = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure how well sentences and images find each other.

    Recall@1, @5 and @10, median rank and mean reciprocal rank, in both directions.
    """
    from miniclip import load_encoder
    from miniclip.datasets.captions import read_captions
    from miniclip.evaluate.retrieval import embed_captions

    caption_set = read_captions(
        captions,
        images,
        split,
        format=format,
        image_column=image_column,
        caption_column=caption_column,
    )
    encoder = load_encoder(bundle, runtime=runtime)
    with output.progress_bar("embedding", len(caption_set)) as progress:
        embedded = embed_captions(encoder, caption_set, progress=progress)
    result = embedded.score()
    if html:
        from miniclip.evaluate.sheet import retrieval_sheet
        from miniclip.report.retrieval import write_retrieval_report

        write_retrieval_report(
            html,
            result,
            retrieval_sheet(embedded),
            embedded.captions,
            model=encoder.name,
            command=output.command_line(),
        )
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
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    templates: options.Templates = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
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
    encoder = load_encoder(bundle, runtime=runtime)
    with output.progress_bar("embedding", len(labelled)) as progress:
        result = evaluate_zeroshot(encoder, labelled, sentences, progress=progress)
    _show(result, encoder.name, len(labelled) + len(labelled.skipped), strict, json)


@app.command()
def classifier(
    model: Model,
    data: NewData,
    recalibrate: Recalibrate = 0,
    out: Output = None,
    html: Html = None,
    skip_unknown: SkipUnknown = False,
    group_regex: options.GroupRegex = None,
    group_column: options.GroupColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    seed: Seed = 0,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure a fitted classifier on new labelled images, and how far these are from its own.

    Classes are matched by name. The figures are those of `miniclip fit`, with drift.
    """
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.evaluate.classifier import evaluate_classifier
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.model import ClassifierModel, recalibrated, refuse_place
    from miniclip.runtimes import open_encoder

    if out and not recalibrate:
        raise typer.BadParameter("-o writes the recalibrated model; give --recalibrate N with it")
    if out:
        refuse_place(out)
    opened = ClassifierModel.open(model)
    splits = read_labelled_splits(
        data,
        group_regex=group_regex,
        group_column=group_column,
        image_column=image_column,
        label_column=label_column,
    )
    encoder = open_encoder(opened.find_bundle(bundle), runtime=runtime)
    total = len(splits) * len(opened.views)
    with VectorCache.open() as cache, output.progress_bar("embedding", total) as progress:
        result = evaluate_classifier(
            opened,
            encoder,
            splits,
            cache,
            recalibrate=recalibrate,
            skip_unknown=skip_unknown,
            seed=seed,
            progress=progress,
        )
    if html:
        from miniclip.report.classifier import write_evaluation_report

        files = {source.name: source.path for source in splits.labelled.sources if source.path}
        write_evaluation_report(html, result, files=files, command=output.command_line())
    if out and result.rules:
        recalibrated(opened, result.rules, out)
        output.note(f"wrote the recalibrated model to {out}")
    for warning in result.warnings:
        output.warn(warning)
    _show(result, encoder.name, len(splits) + len(splits.labelled.skipped), strict, json)


def _show(
    result: RetrievalResult | ZeroShotResult | EvaluationResult,
    bundle: str,
    total: int,
    strict: bool,
    json: bool,
) -> None:
    if json:
        output.print_json({"bundle": bundle, **result.to_dict()})
    else:
        print(result)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")
