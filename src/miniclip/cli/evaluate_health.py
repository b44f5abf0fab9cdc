"""`miniclip evaluate health`: what the shared space of a model is like on captioned images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def evaluate_health(
    captions: options.Captions,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Folder of the images. Default: that of the captions.",
            show_default=False,
        ),
    ] = None,
    split: options.CaptionSplit = None,
    format: options.CaptionFormat = None,
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write a page with pictures of the space."
        ),
    ] = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure the space that images and texts share.

    Modality gap, alignment, uniformity, effective rank, hubness, temperature.
    """
    from miniclip import load_encoder
    from miniclip.datasets.captions import read_captions
    from miniclip.evaluate.health import evaluate_health as measure
    from miniclip.evaluate.retrieval import embed_captions
    from miniclip.evaluate.sheet import retrieval_sheet
    from miniclip.index.vector_cache import VectorCache

    caption_set = read_captions(
        captions,
        images,
        split,
        format=format,
        image_column=image_column,
        caption_column=caption_column,
    )
    encoder = load_encoder(bundle, runtime=runtime)
    with (
        VectorCache.open() as cache,
        output.progress_bar("embedding", len(caption_set)) as progress,
    ):
        embedded = embed_captions(encoder, caption_set, cache=cache, progress=progress)
    result = measure(encoder, embedded, seed=seed)
    if html:
        from miniclip.report.health import write_health_report

        write_health_report(
            html,
            result,
            retrieval_sheet(embedded, seed=seed),
            embedded,
            model=encoder.name,
            command=output.command_line(),
            seed=seed,
        )
    if json:
        output.print_json({"bundle": encoder.name, **result.to_dict()})
    else:
        print(result)
    total = len(caption_set) + len(caption_set.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")
