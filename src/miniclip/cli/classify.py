"""`miniclip classify`: probabilities of labels for images, with no training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def classify(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Images or folders.", show_default=False),
    ],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            metavar="LIST|FILE",
            help="The names to choose from: cat,dog,horse or a file with one a line.",
            show_default=False,
        ),
    ],
    templates: options.Templates = None,
    top: options.Top = 5,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Name images with labels of your own, untrained.

    The probabilities of all labels sum to 1, so they say which label fits best, not that one fits.
    """
    from miniclip import load_encoder
    from miniclip.cli.folders import embed_folders
    from miniclip.prompts import DEFAULT_TEMPLATES, parse_labels, read_templates
    from miniclip.zeroshot import class_vectors, probabilities

    names = parse_labels(labels)
    if len(names) == 1:
        output.warn(
            f"{names[0]!r} is the only label and gets 100 % of every image; give two or more"
        )
    sentences = read_templates(templates) if templates else DEFAULT_TEMPLATES
    encoder = load_encoder(bundle, runtime=runtime)
    found = embed_folders(encoder, images)
    table = probabilities(encoder, found.embeddings, class_vectors(encoder, names, sentences))
    best = [
        sorted(zip(names, map(float, row), strict=True), key=lambda pair: -pair[1])[:top]
        for row in table
    ]
    if json:
        output.print_json(
            {
                "bundle": encoder.name,
                "images": [
                    {
                        "path": str(path),
                        "labels": [
                            {"label": label, "probability": share} for label, share in ranked
                        ],
                    }
                    for path, ranked in zip(found.paths, best, strict=True)
                ],
                "skipped": [entry.to_dict() for entry in found.skipped],
            }
        )
    else:
        for path, ranked in zip(found.paths, best, strict=True):
            shares = ", ".join(f"{label} {share:.1%}" for label, share in ranked)
            output.print_line(f"{path}: {shares}")
    output.warn_skipped(found.skipped, len(found.paths) + len(found.skipped), strict=strict)
