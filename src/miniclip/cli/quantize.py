"""`miniclip quantize`: a faster variant of a bundle, if the user's own data allows it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import MissingExtraError

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.quantize.questions import Questions


Precisions = Annotated[
    str, typer.Option("--precision", metavar="LIST", help="What to try, separated by commas.")
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin", min=0, max=1, help="Share of the right answers that a variant may lose."
    ),
]
Probe = Annotated[
    bool,
    typer.Option("--probe", help="Judge classes by a classifier on features, not by their names."),
]


def quantize(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="Model: an installed name or a bundle directory.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR|TABLE|CAPTIONS",
            help="What to judge by: a folder per class, or a CSV with path and label. With "
            "--images or --split: captions, as 'evaluate retrieval' reads them.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="BUNDLE",
            help="Bundle directory to write.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Folder of the images of captions."),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="Use only the images named here, one a line."),
    ] = None,
    precision: Precisions = "int8,float16",
    margin: Margin = 0.01,
    probe: Probe = False,
    templates: options.Templates = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Make a bundle faster, if it stays as good on your data.

    int8 and float16 variants of both towers are tried. The fastest is written that, in pairs with
    the bundle as it is, loses at most the margin at the far end of the 95 % interval, and is faster
    on this machine. The verdict is printed either way. Needs miniclip[pull].
    """
    if find_spec("onnx") is None:
        raise MissingExtraError("Quantisation", "pull")
    from miniclip.bundle import Bundle
    from miniclip.quantize.run import quantize as run
    from miniclip.quantize.run import read_precisions

    opened = Bundle.resolve(bundle)
    questions = _questions(opened, data, images, split, templates, probe)
    with output.progress_bars() as start:
        verdict = run(
            opened,
            out,
            questions,
            precisions=read_precisions(precision),
            margin=margin,
            runtime=runtime,
            watch=start,
        )
    if json:
        output.print_json(verdict.to_dict())
    else:
        print(verdict)


def _questions(
    bundle: Bundle,
    data: Path,
    images: Path | None,
    split: Path | None,
    templates: Path | None,
    probe: bool,
) -> Questions:
    """Read captions where an image folder or a split belongs to the data, classes otherwise."""
    from miniclip.datasets.captions import read_captions
    from miniclip.datasets.folders import read_labelled
    from miniclip.prompts import DEFAULT_TEMPLATES, read_templates
    from miniclip.quantize.questions import ProbeQuestions, RetrievalQuestions, ZeroShotQuestions

    if images or split:
        return RetrievalQuestions(read_captions(data, images, split))
    labelled = read_labelled(data)
    if probe or bundle.manifest.text is None:
        return ProbeQuestions(labelled)
    return ZeroShotQuestions(
        labelled, read_templates(templates) if templates else DEFAULT_TEMPLATES
    )
