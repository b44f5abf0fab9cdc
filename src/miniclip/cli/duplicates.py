"""`miniclip duplicates`: pictures that an index holds more than once. It deletes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.collection import Index
    from miniclip.index.near_duplicates import Group
    from miniclip.index.store import ImageRecord


def duplicates(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="A folder with an index; left out with --index or --store.",
            show_default=False,
        ),
    ] = None,
    similar: Annotated[
        float | None,
        typer.Option(
            "--similar",
            min=0.5,
            max=1.0,
            metavar="C",
            help="Group what merely looks alike to the model, such as bursts: pictures whose "
            "vectors have at least this cosine; 0.95 is a good start.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page with thumbnails."),
    ] = None,
    directory: options.IndexDirectory = None,
    store: options.Store = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Find pictures that are there more than once, and say which copy to keep.

    The one to keep has the most pixels, then the most bytes, then the oldest date. Nothing is
    deleted or moved.
    """
    if not (folder or directory or store):
        raise typer.BadParameter("name a folder with an index: miniclip duplicates FOLDER")
    from miniclip import load_encoder
    from miniclip.cli.places import address_of, open_index, part_of
    from miniclip.index.near_duplicates import find_groups
    from miniclip.index.reading import sources_of

    with open_index(
        folder, address_of(directory, store), load_encoder(bundle, runtime=runtime)
    ) as index:
        where = part_of(index, [folder] if folder else [])
        count = index.store.count(where)
        with output.progress_bar("comparing", count) as progress:
            groups = find_groups(
                index.store,
                lambda images: sources_of(index.location, images),
                similar=similar,
                where=where,
                progress=progress,
            )
        if html:
            _write_page(html, index, groups, _summary(groups, count))
        if json:
            output.print_json(
                {
                    "index": str(index.address),
                    "images": count,
                    "groups": [_to_dict(index, group) for group in groups],
                    "wasted_bytes": sum(group.wasted_bytes for group in groups),
                    "html": str(html) if html else None,
                }
            )
        else:
            _print(index, groups)
    output.note(_summary(groups, count))
    if html:
        output.note(f"wrote {html}")


def _print(index: Index, groups: list[Group]) -> None:
    for group in groups:
        output.print_line(f"keep  {_line(index, group.keep)}")
        for image in group.rest:
            output.print_line(f"copy  {_line(index, image)}")
        print()


def _line(index: Index, image: ImageRecord) -> str:
    from miniclip.cli.places import image_path

    return f"{_note(image)}  {image_path(index, image)}"


def _note(image: ImageRecord) -> str:
    return f"{image.width:>5} x {image.height:<5} {image.size / 1e3:>9,.0f} kB"


def _summary(groups: list[Group], count: int) -> str:
    copies = sum(len(group.rest) for group in groups)
    wasted = sum(group.wasted_bytes for group in groups) / 1e6
    return (
        f"{copies:,} copies in {len(groups):,} groups among {count:,} images, {wasted:,.1f} MB; "
        "nothing was deleted"
    )


def _to_dict(index: Index, group: Group) -> dict[str, Any]:
    return {
        "keep": _image(index, group.keep),
        "copies": [_image(index, image) for image in group.rest],
        "alike": group.alike,
        "wasted_bytes": group.wasted_bytes,
    }


def _image(index: Index, image: ImageRecord) -> dict[str, Any]:
    from miniclip.cli.places import image_path

    return {
        "path": str(image_path(index, image)),
        "width": image.width,
        "height": image.height,
        "bytes": image.size,
    }


def _write_page(path: Path, index: Index, groups: list[Group], summary: str) -> None:
    from miniclip.index.reading import sources_of
    from miniclip.report.duplicates import Copy, write_duplicates_page

    shown = []
    for group in groups:
        images = (group.keep, *group.rest)
        sources = sources_of(index.location, images)
        shown.append(
            [Copy(source, _note(image)) for source, image in zip(sources, images, strict=True)]
        )
    write_duplicates_page(
        path,
        shown,
        title="Pictures that are there more than once",
        summary=summary,
        command=output.command_line(),
    )
