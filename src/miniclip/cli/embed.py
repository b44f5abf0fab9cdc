"""`miniclip embed`: write the vectors of images to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import engine, options, output

if TYPE_CHECKING:
    from miniclip.embed import Skipped, Stream
    from miniclip.encoder import Encoder
    from miniclip.index.vector_file import Vectors


def embed(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Images or folders.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write: vectors.npz or vectors.parquet.",
            show_default=False,
        ),
    ],
    features: Annotated[
        bool,
        typer.Option("--features", help="Also write the image features before the projection."),
    ] = False,
    on: engine.Option = engine.Engine.local,
    address: engine.Address = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Write the vectors of images to a file.

    For use in other tools. Rows have length 1: the dot product of two is their cosine.
    """
    if features and on is engine.Engine.ray:
        raise typer.BadParameter("--features are computed on this computer; leave out --engine ray")
    from miniclip.bundle import Bundle
    from miniclip.index.vector_file import check_output, write_vectors
    from miniclip.runtimes import open_encoder

    check_output(out)
    source = Bundle.resolve(bundle)
    encoder = open_encoder(source, runtime=runtime)
    with engine.stream_of(on, address, source, runtime) as stream:
        vectors, skipped = _embed(encoder, paths, features, stream)
    write_vectors(out, vectors, model=encoder.name, fingerprint=encoder.fingerprint)
    if json:
        output.print_json(
            {
                "bundle": encoder.name,
                "output": str(out),
                "count": len(vectors.ids),
                "embedding_dim": encoder.embedding_dim,
                "feature_dim": encoder.feature_dim if features else None,
                "skipped": [entry.to_dict() for entry in skipped],
            }
        )
    else:
        print(f"{out}: {len(vectors.ids)} vectors of {encoder.embedding_dim} numbers")
    output.warn_skipped(skipped, len(vectors.ids) + len(skipped), strict=strict)


def _embed(
    encoder: Encoder, paths: list[Path], features: bool, stream: Stream
) -> tuple[Vectors, tuple[Skipped, ...]]:
    """Take the vectors from the cache; it holds no features, so these need every image again."""
    from miniclip.cli.folders import embed_folders, list_images, refuse_nothing
    from miniclip.embed import embed_all
    from miniclip.images import ImageSource
    from miniclip.index.vector_file import Vectors

    if not features:
        found = embed_folders(encoder, paths, stream)
        return Vectors(tuple(map(str, found.paths)), found.embeddings), found.skipped
    images, unreadable = list_images(paths)
    with output.progress_bar("embedding", len(images)) as progress:
        result = embed_all(encoder, map(ImageSource.of, images), progress=progress)
    if not result.names:
        refuse_nothing(result.skipped)
    skipped = (*unreadable, *result.skipped)
    return Vectors(result.names, result.embeddings, result.features), skipped
