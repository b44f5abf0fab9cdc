"""`miniclip audit`: whom a model serves worse, what it associates, what lies in a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.audit.answers import Asked

app = typer.Typer(
    name="audit",
    help="Hold a model or a data set to account: subgroups, associations, identities.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")]
Seed = Annotated[int, typer.Option(min=0, help="Of bootstraps and permutations.")]


@app.command()
def groups(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Labelled images: a folder per class, or a CSV with path and label. Those of the "
            "fit are judged by their held-out answers.",
            show_default=False,
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="What tells the subgroups apart: a column of --metadata, folder:1, exif:camera, "
            "exif:year, file:format, file:pixels, dicom:Manufacturer, ...; may be repeated.",
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata",
            metavar="FILE",
            help="CSV or TSV with a path and the columns. Default: DATA, if that is a table.",
        ),
    ] = None,
    discover: Annotated[
        int,
        typer.Option(
            "--discover", min=0, metavar="K", help="Also audit K clusters of images of like looks."
        ),
    ] = 0,
    at_least: Annotated[
        int,
        typer.Option(
            "--at-least", min=2, metavar="N", help="Compare subgroups of so many images or more."
        ),
    ] = 10,
    html: Html = None,
    skip_unknown: Annotated[
        bool,
        typer.Option("--skip-unknown", help="Skip images of classes that the model does not know."),
    ] = False,
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
    """Measure a fitted classifier on each subgroup, and test the gaps between them.

    Accuracy, recall, calibration, coverage and who decides by itself; parity gaps by fairlearn's
    definitions; an alarm only where chance does not explain a gap, however many were looked at.
    """
    if not (column or discover):
        raise typer.BadParameter("name at least one --column, or --discover K clusters")
    from miniclip.audit.answers import ask_model
    from miniclip.audit.groups import audit_groups
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.model import ClassifierModel
    from miniclip.runtimes import open_encoder

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
        asked = ask_model(
            opened, encoder, splits, cache, skip_unknown=skip_unknown, progress=progress
        )
    table = metadata or (None if data.is_dir() else data)
    columns = _columns(asked, column or [], table, image_column, discover, seed)
    result = audit_groups(asked, columns, model=str(model), fewest=at_least, seed=seed)
    if html:
        from miniclip.report.audit import write_groups_page

        files = dict(zip(asked.answers.names, asked.answers.paths, strict=True))
        write_groups_page(html, result, files=files, command=output.command_line())
    if json:
        output.print_json(result.to_dict())
    else:
        print(result)
    for warning in result.warnings:
        output.warn(warning)
    total = len(asked.answers) + len(result.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")


def _columns(
    asked: Asked,
    wanted: list[str],
    table: Path | None,
    image_column: str | None,
    clusters: int,
    seed: int,
) -> dict[str, list[str]]:
    """Give the subgroup of each image by each column."""
    from miniclip.audit.columns import DISCOVERED, discover, subgroups_of

    answers = asked.answers
    found = {
        column: subgroups_of(
            column, answers.names, answers.paths, table=table, image_column=image_column
        )
        for column in wanted
    }
    if clusters and answers.features is not None:
        found[DISCOVERED] = discover(answers.features, clusters, seed=seed)
    return found
