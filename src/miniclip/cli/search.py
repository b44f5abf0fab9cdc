"""`miniclip search`: rank the images of folders by a sentence or by an example image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def search(
    sentence: Annotated[
        str,
        typer.Argument(
            metavar="SENTENCE",
            help="What to look for; left out with --image.",
            show_default=False,
        ),
    ] = "",
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Where to look.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="Search by this image, not by a sentence."),
    ] = None,
    top: options.Top = 12,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page with thumbnails."),
    ] = None,
    bundle: options.Bundle = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Find the images that fit a sentence or an example image.

    Images are embedded on the first search and remembered by content and model, so the next search
    of the same folders takes seconds, even after files were moved or renamed.
    """
    places = [Path(sentence)] if image and sentence else []
    places += folders or []
    if not places or not (image or sentence.strip()):
        raise typer.BadParameter(
            "say what to look for and name at least one folder: "
            'miniclip search "a dog on the beach" FOLDER'
        )
    from miniclip import load_encoder
    from miniclip.cli.folders import embed_folders
    from miniclip.index.search import best_hits, image_query

    encoder = load_encoder(bundle)
    query = image_query(encoder, image) if image else encoder.encode_texts([sentence])[0]
    found = embed_folders(encoder, places)
    hits = best_hits(found.paths, found.embeddings, query, top=top)
    if html:
        from miniclip.report.search import write_search_page

        write_search_page(html, query=image or sentence, hits=hits, command=output.command_line())
    if json:
        output.print_json(
            {
                "query": {"image": str(image)} if image else {"text": sentence},
                "bundle": encoder.name,
                "hits": [{"path": str(hit.path), "score": hit.score} for hit in hits],
                "searched": len(found.paths),
                "embedded": found.computed,
                "skipped": [entry.to_dict() for entry in found.skipped],
                "html": str(html) if html else None,
            }
        )
    else:
        for hit in hits:
            print(f"{hit.score:6.3f}  {hit.path}")
        if html:
            output.note(f"wrote {html}")
    output.warn_skipped(found.skipped, len(found.paths) + len(found.skipped), strict=strict)
