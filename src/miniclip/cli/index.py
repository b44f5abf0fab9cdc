"""`miniclip index`: make an index of folders, and keep it in step with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import engine, options, output

if TYPE_CHECKING:
    from miniclip.collection import Index
    from miniclip.embed import Stream
    from miniclip.index.sync import Progress, SyncResult


Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER",
        help="Folders of images; also image files, tar shards and Parquet tables with images. "
        "Left out with --index or --store: the folders that this index knows.",
        show_default=False,
    ),
]
Captions = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE",
        help="Captions of the images, in any format of 'evaluate retrieval', for 'match' and "
        "for search by words.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="PATTERN",
        help="Leave out what matches, as in a .gitignore; may be repeated. Patterns in the "
        "file .miniclipignore of a folder always count.",
    ),
]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Forget images that vanished for good, even a whole folder."),
]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Throw the index away and make it anew.")]
Places = Annotated[
    bool,
    typer.Option(
        "--places",
        help="Also keep where each photo was taken, by the GPS of its EXIF, for conditions on "
        "latitude and longitude. Whoever can read the index can then read the places.",
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C: index whatever changes.")]


def index(
    folders: Folders = None,
    captions: Captions = None,
    ignore: Ignore = None,
    prune: Prune = False,
    rebuild: Rebuild = False,
    places: Places = False,
    watch: Watch = False,
    directory: options.IndexDirectory = None,
    store: options.Store = None,
    on: engine.Option = engine.Engine.local,
    cluster: engine.Address = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Index folders of images, or bring an index in step with them.

    Only images that are new to the index are embedded: moved, renamed, copied and touched files are
    recognised by their content. It may be stopped at any moment and goes on where it was.
    """
    if not (folders or directory or store):
        raise typer.BadParameter("name at least one folder of images: miniclip index FOLDER")
    if watch and json:
        raise typer.BadParameter("--json prints one object at the end, and --watch has no end")
    from miniclip.bundle import Bundle
    from miniclip.cli.places import address_of
    from miniclip.collection import Index
    from miniclip.runtimes import open_encoder

    address = address_of(directory, store)
    source = Bundle.resolve(bundle)
    with (
        Index.open(
            folders or [], open_encoder(source, runtime=runtime), store=address
        ) as collection,
        engine.stream_of(on, cluster, source, runtime) as stream,
    ):
        with _progress() as progress:
            result = collection.sync(
                captions=captions,
                ignore=ignore or [],
                prune=prune,
                rebuild=rebuild,
                places=places,
                progress=progress,
                stream=stream,
            )
        if json:
            output.print_json(
                {
                    "index": str(collection.address),
                    "bundle": collection.encoder.name,
                    **result.to_dict(),
                }
            )
        else:
            _show(result, collection)
        _warn(result, strict=strict)
        if watch:
            _watch(collection, ignore or [], stream, places=places)


def _show(result: SyncResult, collection: Index) -> None:
    print(result)
    print(f"index: {collection.address}")
    if not result.images and not result.skipped:
        output.warn(f"there is no image below {', '.join(map(str, collection.roots))}")


def _watch(collection: Index, ignore: list[str], stream: Stream, *, places: bool) -> None:
    from miniclip.errors import MiniClipError
    from miniclip.index.watch import changes

    output.note("watching; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):  # also in the middle of a sync, which loses nothing
        for _ in changes(collection.roots):
            try:
                with _progress() as progress:
                    result = collection.sync(
                        ignore=ignore, places=places, progress=progress, stream=stream
                    )
            except MiniClipError as error:  # a drive that is gone may come back
                output.warn(str(error))
                continue
            print(result, flush=True)
            _warn(result, strict=False)


def _warn(result: SyncResult, *, strict: bool) -> None:
    output.warn_skipped(result.skipped, result.images + len(result.skipped), strict=strict)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Give a bar for each thing that is done, with images a second and the time left."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate="")
            bar.update(tasks[what], completed=done, total=total)
            speed = bar.tasks[tasks[what]].speed
            if speed:
                bar.update(tasks[what], rate=f"{speed:.0f}/s")

        yield show
