"""`miniclip transfer`: how far a classifier carries from one data set to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.datasets.labelled_splits import LabelledSplits


def transfer(
    train: Annotated[
        list[Path],
        typer.Option(
            "--train",
            metavar="DATA",
            help="Labelled images to learn from; may be repeated.",
            show_default=False,
        ),
    ],
    test: Annotated[
        list[Path],
        typer.Option(
            "--test",
            metavar="DATA",
            help="Labelled images to test on; may be repeated.",
            show_default=False,
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OTHER=NAME",
            help="Two names of one class, such as 'no tumour=notumor'; may be repeated.",
        ),
    ] = None,
    head: Annotated[
        str, typer.Option(help="kernel, logistic, svm, prototype, knn, zeroshot or blend.")
    ] = "kernel",
    views: Annotated[str, typer.Option(help="As for miniclip fit.")] = "plain",
    folds: Annotated[int, typer.Option(min=2, help="Folds on the diagonal.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Learn on each of some data sets and test on each of others.

    A pair is measured on the classes that both have, by name. A data set given as both is
    cross-validated, which is the figure to compare the others with.
    """
    from miniclip import load_encoder
    from miniclip.evaluate.transfer import TransferSettings, measure_transfer
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.learn import HeadChoice

    pairs = dict(_pair(text) for text in names or ())
    choice = HeadChoice(head, seed=seed)
    choice.check()
    sets = _read([*train, *test])
    encoder = load_encoder(bundle, runtime=runtime)
    total = max(map(len, sets.values()))
    with VectorCache.open() as cache, output.progress_bar("embedding", total) as progress:
        result = measure_transfer(
            encoder,
            {str(path): sets[str(path)] for path in train},
            {str(path): sets[str(path)] for path in test},
            cache,
            TransferSettings(choice, views, folds, seed),
            names=pairs,
            progress=progress,
        )
    if json:
        output.print_json({"bundle": encoder.name, **result.to_dict()})
    else:
        print(result)
    images = sum(map(len, sets.values()))
    output.warn_skipped(result.skipped, images, strict=strict, what="images or rows")


def _read(paths: list[Path]) -> dict[str, LabelledSplits]:
    from miniclip.datasets.labelled_splits import read_labelled_splits

    return {str(path): read_labelled_splits(path) for path in dict.fromkeys(paths)}


def _pair(text: str) -> tuple[str, str]:
    other, equals, name = (part.strip() for part in text.partition("="))
    if not (other and equals and name):
        raise typer.BadParameter(f"--map {text!r} is no OTHER=NAME")
    return other, name
