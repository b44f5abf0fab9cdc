"""`miniclip copy`: bring an index from one store to another, with a checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.index.location import Location


def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="An index: its directory, a folder that has one, or milvus:FILE.db or "
            "milvus:http://HOST:19530#NAME.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="DST", help="Where to: likewise.", show_default=False),
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace the index that is there.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Copy an index to another store, such as from this machine to Milvus, and check it.

    Every image, caption and vector is read back and compared by a checksum. The source stays as it
    is; photos are not copied.
    """
    from miniclip.index.copying import copy_index

    old, new = _location(source), _location(target)
    with output.progress_bars() as start:
        copied = copy_index(old, new, rebuild=rebuild, progress=start("copying", None))
    if json:
        output.print_json({"source": str(old.address), "target": str(new.address), **vars(copied)})
    else:
        print(f"{new.address}: {copied}")


def _location(text: str) -> Location:
    """Read an address; a folder with an index stands for that index."""
    from miniclip.index.address import Directory, is_index, parse_address
    from miniclip.index.location import BESIDE, Location

    address = parse_address(text)
    if isinstance(address, Directory) and is_index(address.path / BESIDE):
        address = Directory(address.path / BESIDE)
    return Location.of_store(address)
