"""`miniclip demo`: photos, sentences and labels that need no data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.demo import DemoResult


def demo(
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Where the photos and the page go."),
    ] = Path("miniclip-demo"),
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Search and name twenty photos that need no data of yours.

    Prints tables and writes one page with thumbnails. Needs the optional packages
    miniclip[demo], but no network.
    """
    from miniclip import load_encoder
    from miniclip.demo import copy_photos, run_demo
    from miniclip.report.demo import write_demo_page

    encoder = load_encoder(bundle, runtime=runtime)
    result = run_demo(encoder, copy_photos(out / "photos"))
    page = out / "demo.html"
    write_demo_page(page, result, command=output.command_line())
    if json:
        output.print_json({**_as_json(result), "photos": str(out / "photos"), "html": str(page)})
    else:
        _print(result)
        output.note(f"wrote {page} and the photos in {out / 'photos'}")


def _print(result: DemoResult) -> None:
    width = max(len(found.question.sentence) for found in result.found)
    print(f"Sentence -> photo: {result.sentences_right} of {len(result.found)} right at rank 1")
    for found in result.found:
        hits = ", ".join(f"{hit.path.name} {hit.score:.3f}" for hit in found.hits)
        print(f"  {_mark(found.right)} {found.question.sentence:<{width}}  {hits}")
    print(f"\nPhoto -> sentence: {result.photos_right} of {len(result.named)} right")
    for named in result.named:
        print(
            f"  {_mark(named.sentence_right)} {named.path.name:<20} "
            f"{named.sentence} {named.score:.3f}"
        )
    print(f"\nPhoto -> label, of {len(result.named)}: {result.labels_right} right")
    for named in result.named:
        labels = ", ".join(f"{label} {share:.0%}" for label, share in named.labels)
        print(f"  {_mark(named.label_right)} {named.path.name:<20} {labels}")


def _mark(right: bool) -> str:
    return "+" if right else "-"


def _as_json(result: DemoResult) -> dict[str, Any]:
    return {
        "bundle": result.model,
        "sentences_right": result.sentences_right,
        "photos_right": result.photos_right,
        "labels_right": result.labels_right,
        "sentences": [
            {
                "sentence": found.question.sentence,
                "photo": found.question.photo,
                "right": found.right,
                "hits": [{"path": str(hit.path), "score": hit.score} for hit in found.hits],
            }
            for found in result.found
        ],
        "images": [
            {
                "path": str(named.path),
                "sentence": named.sentence,
                "score": named.score,
                "labels": [{"label": label, "probability": share} for label, share in named.labels],
            }
            for named in result.named
        ],
    }
