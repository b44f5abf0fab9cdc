"""`miniclip fit`: a classifier from labelled images, with figures that one can rely on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.encoder import Encoder
    from miniclip.probe.fit import Fitted
    from miniclip.probe.learn import Labelled, MlpTrainer

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder per class; folders train, val, test of such; or a CSV with the columns "
        "path and label.",
        show_default=False,
    ),
]


def fit(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="MODEL",
            help="Directory of the model. Default: DATA's name and -model, here.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str,
        typer.Option(
            help="kernel, logistic, svm, prototype, knn, zeroshot, blend; mlp (needs miniclip[train])."
        ),
    ] = "kernel",
    folds: Annotated[int, typer.Option(min=2, help="How many folds are held out in turn.")] = 5,
    views: Annotated[
        str,
        typer.Option(help="Ways to look at each image: plain, flip, crops, tiles, with commas."),
    ] = "plain",
    target_error: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="How often a decision without a person may be wrong."),
    ] = 0.01,
    alpha: Annotated[
        float, typer.Option(help="How often a prediction set may miss the true label.")
    ] = 0.1,
    sets: Annotated[
        str, typer.Option(help="Kind of prediction sets: lac, aps, raps, aps-whole, raps-whole.")
    ] = "lac",
    per_class_sets: Annotated[
        bool, typer.Option("--per-class-sets", help="Keep the promise of the sets for each class.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="Of the mlp head: baseline or robust.", show_default=False)
    ] = None,
    compare_presets: Annotated[
        bool, typer.Option("--compare-presets", help="Train both presets too; show their curves.")
    ] = False,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="HEAD", help="Compare with another head too; may be repeated."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the head, such as c=1, or of an MLP, such as mlp.epochs=100; may be "
            "repeated.",
        ),
    ] = None,
    group_regex: options.GroupRegex = None,
    group_column: options.GroupColumn = None,
    split_column: options.SplitColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    copy_bundle: Annotated[
        bool, typer.Option("--copy-bundle", help="Put a copy of the encoder into the model.")
    ] = False,
    bundle: options.Bundle = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Fit a classifier and learn how good it is.

    Repeated pictures are found and kept on one side of every split; every figure has an interval;
    the model says which predictions a person should look at. Writes a model directory with a report
    for `miniclip predict`.
    """
    from miniclip import load_encoder
    from miniclip.bundle import Bundle
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.fit import fit_classifier
    from miniclip.probe.fit_settings import FitSettings
    from miniclip.probe.model import refuse_place, write_model

    heads = tuple(text for text in overrides or () if not text.startswith("mlp."))
    mlps = tuple(text.removeprefix("mlp.") for text in overrides or () if text.startswith("mlp."))
    settings = FitSettings(
        head=head,
        overrides=(*heads, *mlps) if head == "mlp" else heads,
        preset=preset,
        compare_presets=compare_presets,
        mlp_overrides=(*heads, *mlps) if head == "mlp" else mlps,
        rivals=tuple(compare or ()),
        views=views,
        folds=folds,
        seed=seed,
        target_error=target_error,
        alpha=alpha,
        sets=sets,
        per_class_sets=per_class_sets,
    )
    out = out or Path(f"{data.resolve().stem}-model")
    refuse_place(out)
    needs_trainer = compare_presets or "mlp" in (head, *settings.rivals)
    trainer = mlp_trainer() if needs_trainer else None
    splits = read_labelled_splits(
        data,
        group_regex=group_regex,
        group_column=group_column,
        split_column=split_column,
        label_column=label_column,
        image_column=image_column,
    )
    encoder = load_encoder(bundle)
    total = len(splits) * len(settings_views(views))
    with VectorCache.open() as cache, output.progress_bar("embedding", total) as progress:
        fitted = fit_classifier(
            encoder, splits, cache, settings, trainer=trainer, progress=progress
        )
    contents = fitted.contents() | {"report.html": _report(fitted, encoder)}
    write_model(out, contents, bundle=Bundle.resolve(bundle).directory if copy_bundle else None)
    show(fitted, out, strict, json)


def show(fitted: Fitted, out: Path, strict: bool, json: bool) -> None:
    """Print the result of a fit and say where the model lies."""
    from miniclip.probe.summary import summary

    result = fitted.result
    if json:
        output.print_json({"model": str(out), **result.to_dict()})
    else:
        print(summary(result))
        output.note(f"wrote the model to {out}; {out / 'report.html'} shows everything")
    for warning in result.warnings:
        output.warn(warning)
    total = len(fitted.prepared) + len(result.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")


def settings_views(views: str) -> tuple[object, ...]:
    """Return the views of the option, to count the work."""
    from miniclip.views import named_views

    return named_views(views)


def mlp_trainer() -> MlpTrainer:
    """Return the trainer of MLP heads; MissingExtraError without miniclip[train]."""
    output.require_training("The mlp head")
    from miniclip.train.mlp import LabelledRows, MlpFit, fit_mlp, mlp_settings

    def train(
        train: Labelled,
        validation: Labelled,
        *,
        classes: int,
        preset: str | None,
        overrides: Sequence[str],
        seed: int,
    ) -> MlpFit:
        settings = mlp_settings(preset, overrides)
        rows, held_out = LabelledRows(*train), LabelledRows(*validation)
        return fit_mlp(rows, held_out, settings, classes=classes, seed=seed)

    return train


def _report(fitted: Fitted, encoder: Encoder) -> bytes:
    from miniclip.report.classifier import write_fit_report

    table = fitted.prepared.table
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_fit_report(
            page,
            fitted.result,
            files=dict(zip(table.names, table.paths, strict=True)),
            encoder=encoder,
            model=fitted.model,
            command=fitted.result.reproduce,
        )
        return page.read_bytes()
