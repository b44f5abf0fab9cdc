"""`miniclip map`: a collection as one page, to pan and zoom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output
from miniclip.errors import DatasetError

if TYPE_CHECKING:
    from miniclip.collection import Index
    from miniclip.images import ImageSource
    from miniclip.index.store import ImageRecord
    from miniclip.report.map import Pictured


def collection_map(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="A folder with an index; left out with --index or --store.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="The page to write.")] = Path(
        "miniclip-map.html"
    ),
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", help="Only images with such metadata."),
    ] = None,
    most: Annotated[
        int,
        typer.Option("--most", min=1, max=20_000, metavar="N", help="Of more, draw a sample."),
    ] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Another map.")] = 0,
    directory: options.IndexDirectory = None,
    store: options.Store = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Draw a map of a collection: what looks alike lies together, and groups have names.

    The page is one file with all thumbnails in it; it needs no network and no server.
    """
    if not (folder or directory or store):
        raise typer.BadParameter("name a folder with an index: miniclip map FOLDER")
    from miniclip import load_encoder
    from miniclip.cli.places import address_of, open_index, part_of
    from miniclip.index.collection_map import draw_map, sample, word_vectors
    from miniclip.index.store import Both
    from miniclip.index.where import parse_where
    from miniclip.report.map import write_map_page

    encoder = load_encoder(bundle, runtime=runtime)
    conditions = [parse_where(where)] if where is not None else []
    with open_index(folder, address_of(directory, store), encoder) as index:
        conditions += filter(None, [part_of(index, [folder] if folder else [])])
        every = index.store.ids(Both(tuple(conditions)))
        images, embeddings = index.store.embedded(sample(every, at_most=most, seed=seed).tolist())
        if not images:
            raise DatasetError(f"there is no image to draw in the index {index.address}")
        with output.progress_bar("placing", len(images)):
            drawn = draw_map(
                [image.id for image in images],
                embeddings,
                word_vectors(encoder),
                total=len(every),
                seed=seed,
            )
        with output.progress_bar("thumbnails", len(images)) as progress:
            write_map_page(
                html,
                drawn,
                [_pictured(index, image) for image in images],
                lambda ids: _sources(index, ids),
                title=f"Map of {', '.join(root.name or str(root) for root in index.roots)}",
                command=output.command_line(),
                progress=progress,
            )
    if json:
        output.print_json(
            {
                "index": str(index.address),
                "images": len(images),
                "total": len(every),
                "clusters": [vars(cluster) for cluster in drawn.clusters],
                "html": str(html),
            }
        )
    else:
        for cluster in drawn.clusters:
            print(f"{cluster.size:6,}  {cluster.name}")
    output.note(f"wrote {html}")


def _sources(index: Index, ids: Sequence[int]) -> list[ImageSource]:
    """Return sources in the order of the ids; one deleted meanwhile is a source of nothing."""
    from miniclip.images import ImageSource
    from miniclip.index.reading import sources_of

    records = index.store.records(ids)
    sources = zip(records, sources_of(index.location, records), strict=True)
    found = {image.id: source for image, source in sources}
    return [found.get(identity, ImageSource("deleted", data=b"")) for identity in ids]


def _pictured(index: Index, image: ImageRecord) -> Pictured:
    from miniclip.cli.places import image_path
    from miniclip.report.map import Pictured

    name = str(image_path(index, image))
    link = "" if image.member else index.location.path(image.place).absolute().as_uri()
    caption = image.captions[0] if image.captions else ""
    return Pictured(name, link, caption)
