"""`miniclip match`: rank sentences, of a file or of an index, by how well they fit an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import ConfigError


def match(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Without --texts: whose index holds the captions. Default: that of the image.",
            show_default=False,
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help="Sentences, one a line, in place of the captions of an index.",
            show_default=False,
        ),
    ] = None,
    top: options.Top = 5,
    directory: options.IndexDirectory = None,
    store: options.Store = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Find the sentences that fit an image: those of a file, or the captions of an index."""
    if texts and (folder or directory or store):
        raise typer.BadParameter("give --texts or an index, not both")
    from miniclip import load_encoder
    from miniclip.index.search import best_rows, image_query
    from miniclip.textfile import read_lines

    sentences = [line.text for line in read_lines(texts, "texts")] if texts else []
    encoder = load_encoder(bundle, runtime=runtime)
    query = image_query(encoder, image)
    index = None
    if texts:
        rows, cosines = best_rows(encoder.encode_texts(sentences), query, top=top)
        hits = [(sentences[row], float(cosine)) for row, cosine in zip(rows, cosines, strict=True)]
    else:
        from miniclip.cli.places import address_of, open_index

        named, place = folder or image, address_of(directory, store)
        instead = "give sentences with --texts FILE"
        with open_index(named, place, encoder, instead=instead) as collection:
            index = collection.address
            hits = [
                (hit.text, hit.cosine) for hit in collection.store.nearest_texts(query, top=top)
            ]
        if not hits:
            raise ConfigError(
                f"the index {index} holds no captions; attach some with: miniclip index "
                f"{folder or image.parent} --captions FILE, or give sentences with --texts"
            )
    if json:
        output.print_json(
            {
                "image": str(image),
                "bundle": encoder.name,
                "hits": [{"text": text, "score": score} for text, score in hits],
                "index": str(index) if index else None,
            }
        )
    else:
        for text, score in hits:
            output.print_line(f"{score:6.3f}  {text}")
