"""`miniclip match`: rank sentences by how well they fit an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miniclip.cli import options, output


def match(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False)],
    texts: Annotated[
        Path,
        typer.Option("--texts", metavar="FILE", help="Sentences, one a line.", show_default=False),
    ],
    top: options.Top = 5,
    bundle: options.Bundle = None,
    json: options.Json = False,
) -> None:
    """Find the sentences that fit an image."""
    from miniclip import load_encoder
    from miniclip.index.search import best_rows, image_query
    from miniclip.textfile import read_lines

    sentences = [line.text for line in read_lines(texts, "texts")]
    encoder = load_encoder(bundle)
    rows, cosines = best_rows(encoder.encode_texts(sentences), image_query(encoder, image), top=top)
    hits = [(sentences[row], float(cosine)) for row, cosine in zip(rows, cosines, strict=True)]
    if json:
        output.print_json(
            {
                "image": str(image),
                "bundle": encoder.name,
                "hits": [{"text": text, "score": score} for text, score in hits],
            }
        )
    else:
        for text, score in hits:
            print(f"{score:6.3f}  {text}")
