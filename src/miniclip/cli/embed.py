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
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images or folders; into a folder of shards also tar shards and Parquet tables, "
            "and URIs such as s3://BUCKET/FOLDER.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write: vectors.npz, vectors.parquet, or FOLDER/ for Parquet shards.",
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
    from miniclip.bundle import Bundle
    from miniclip.runtimes import open_encoder

    if out.endswith("/") or "://" in out:
        if features:
            raise typer.BadParameter("--features are not for shards; give a file")
        _embed_shards(paths, out, on, address, bundle, runtime, strict, json)
        return
    if far := [path for path in paths if "://" in path]:
        raise typer.BadParameter(f"{far[0]} is embedded into shards; give -o FOLDER/")
    if features and on is engine.Engine.ray:
        raise typer.BadParameter("--features are computed on this computer; leave out --engine ray")
    from miniclip.index.vector_file import check_output, write_vectors

    file = Path(out)
    check_output(file)
    source = Bundle.resolve(bundle)
    encoder = open_encoder(source, runtime=runtime)
    with engine.stream_of(on, address, source, runtime) as stream:
        vectors, skipped = _embed(encoder, [Path(path) for path in paths], features, stream)
    write_vectors(file, vectors, model=encoder.name, fingerprint=encoder.fingerprint)
    if json:
        output.print_json(
            {
                "bundle": encoder.name,
                "output": out,
                "count": len(vectors.ids),
                "embedding_dim": encoder.embedding_dim,
                "feature_dim": encoder.feature_dim if features else None,
                "skipped": [entry.to_dict() for entry in skipped],
            }
        )
    else:
        print(f"{out}: {len(vectors.ids)} vectors of {encoder.embedding_dim} numbers")
    output.warn_skipped(skipped, len(vectors.ids) + len(skipped), strict=strict)


def _embed_shards(
    places: list[str],
    out: str,
    on: engine.Engine,
    address: str | None,
    bundle: str | None,
    runtime: str | None,
    strict: bool,
    json: bool,
) -> None:
    """Write shards, which a killed run goes on with."""
    from miniclip.bulk.far import file_system
    from miniclip.bundle import Bundle
    from miniclip.runtimes import open_encoder

    file_system(out)  # says what is missing before anything is loaded
    from miniclip.bulk.shards import embed_shards

    source = Bundle.resolve(bundle)
    encoder = open_encoder(source, runtime=runtime)
    with (
        engine.far_embedder(on, address, encoder, source, runtime) as embed_far,
        output.progress_bars() as start,
    ):
        progress = start("embedding", None)
        made = embed_shards(encoder, places, out, embed_far, progress=progress)
    if json:
        output.print_json(
            {
                "bundle": encoder.name,
                "output": out,
                "count": made.vectors,
                "embedding_dim": encoder.embedding_dim,
                "repeats": made.repeats,
                "rejected": made.rejected,
                "shards": made.shards,
                "found": made.found,
                "skipped": [entry.to_dict() for entry in made.skipped],
            }
        )
    else:
        print(
            f"{out}: {made.vectors} vectors of {encoder.embedding_dim} numbers in {made.shards} "
            f"shards, {made.found} of them from before; {made.repeats} images are there twice"
        )
    output.warn_skipped(made.skipped, made.vectors + made.rejected, strict=strict)


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
