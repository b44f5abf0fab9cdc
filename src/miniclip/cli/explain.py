"""`miniclip explain`: what in a picture, and which words, drive a similarity or a class."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.encoder import Encoder
    from miniclip.explain.explanation import Explanation
    from miniclip.explain.question import Question
    from miniclip.explain.randomisation import Randomisation


class View(StrEnum):
    """How a map is laid over its picture."""

    smooth = "smooth"
    patches = "patches"


class Method(StrEnum):
    """What draws a map; as `explanation.METHODS`, which is not loaded before a verb runs."""

    both = "both"
    occlusion = "occlusion"
    rise = "rise"


Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.", show_default=False)]
Out = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="MAP.png", help="Where the map goes.", show_default=False
    ),
]
Text = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="Explain the similarity to this text."),
]
Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="MODEL", help="Explain a class of this fitted model."),
]
Label = Annotated[
    str | None,
    typer.Option("--class", metavar="CLASS", help="Which class. Default: the likeliest one."),
]
HowDrawn = Annotated[
    Method, typer.Option(help="Cover and show patches, cover patches alone, or random parts.")
]
HowLaid = Annotated[View, typer.Option(help="How the map is laid over the picture.")]
Check = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Also draw maps of the model with shuffled weights, once for each model.",
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a report page.")
]


def explain(
    image: Picture,
    out: Out,
    text: Text = None,
    model: Model = None,
    label: Label = None,
    method: HowDrawn = Method.both,
    view: HowLaid = View.smooth,
    check: Check = True,
    html: Html = None,
    seed: Annotated[int, typer.Option(min=0, help="Of whatever is drawn at random.")] = 0,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Show what in a picture drives its similarity to a text, or a class of a fitted model.

    Every map comes with its own credibility: hiding what it points at first must lower the score
    sooner than hiding what random maps point at. One that is no better than chance is labelled so,
    and means nothing.
    """
    if (text is None) == (model is None):
        raise typer.BadParameter("give either --text TEXT or --model MODEL")
    if label is not None and model is None:
        raise typer.BadParameter("--class is a class of a --model MODEL")
    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"the map is a PNG; give -o NAME.png in place of {out}")

    from miniclip.bundle import Bundle
    from miniclip.explain.explanation import explain as explain_score
    from miniclip.explain.question import ask_class, ask_text
    from miniclip.images import decode
    from miniclip.probe.model import ClassifierModel
    from miniclip.report.overlay import map_sheet, write_sheet
    from miniclip.runtimes import open_encoder

    fitted = ClassifierModel.open(model) if model else None
    source = fitted.find_bundle(bundle) if fitted else Bundle.resolve(bundle)
    encoder = open_encoder(source, runtime=runtime)
    picture = decode(image, at_least=encoder.image_spec.enough())
    if fitted:
        question = ask_class(encoder, picture, fitted, label)
    else:
        question = ask_text(encoder, picture, text or "")
    found = explain_score(encoder, picture, question.score, method=method.value, seed=seed)
    checked = _check(source, encoder, runtime, method.value) if check else None
    write_sheet(out, map_sheet(picture, found, view=view.value))
    if html:
        from miniclip.report.explain import write_explain_page

        write_explain_page(
            html,
            picture,
            question,
            found,
            checked,
            name=image.name,
            command=output.command_line(),
        )
    if json:
        output.print_json(
            {
                "path": str(image),
                "bundle": encoder.name,
                **({"model": str(model)} if model else {}),
                **question.to_dict(),
                **found.to_dict(),
                "randomisation": checked.to_dict() if checked else None,
                "png": str(out),
                **({"html": str(html)} if html else {}),
                "skipped": [],
            }
        )
    else:
        _print(question, found, checked)
        output.note(f"wrote {out}" + (f" and {html}" if html else ""))


def _check(source: Bundle, encoder: Encoder, runtime: str | None, method: str) -> Randomisation:
    from miniclip.explain.randomisation import check_bundle
    from miniclip.pull.probes import probe_photos
    from miniclip.runtimes import open_encoder

    photos = probe_photos()
    some = [photos[place] for place in (0, 16, 2, 20)]  # both photos whole, and a piece of each
    return check_bundle(
        source, encoder, lambda shuffled: open_encoder(shuffled, runtime=runtime), some, method
    )


def _print(question: Question, found: Explanation, checked: Randomisation | None) -> None:
    print(question)
    print(found)
    for word in sorted(question.words, key=lambda word: -word.drop):
        print(f"  {word.drop:+.3f}  {word.word}")
    if checked:
        print(f"shuffled weights: {checked}")
