"""Where search and its relatives look: an index that covers the folders named, or the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miniclip.cli.output import note
from miniclip.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from miniclip.collection import Index
    from miniclip.embed import Skipped
    from miniclip.encoder import Encoder
    from miniclip.images import ImageSource
    from miniclip.index.address import Address
    from miniclip.index.ask import Searchable
    from miniclip.index.store import Filter, ImageRecord


@dataclass(frozen=True)
class Places:
    """What is searched.

    index: None for loose files. within: the part of the index that was named, None for all of it.
    count: how many images there are. embedded: how many of them had to be embedded now.
    """

    store: Searchable
    path_of: Callable[[ImageRecord], Path]
    sources_of: Callable[[Sequence[ImageRecord]], list[ImageSource]]
    count: int
    index: Index | None = None
    within: Filter | None = None
    embedded: int = 0
    skipped: tuple[Skipped, ...] = ()


def address_of(directory: Path | None, store: str | None) -> Address | None:
    """Return what --index or --store names; None without them."""
    from miniclip.index.address import Directory, absolute, parse_address

    if directory and store:
        raise typer.BadParameter("give --index or --store, not both")
    if store:
        return parse_address(store)
    return Directory(absolute(directory)) if directory else None


@contextmanager
def open_places(
    folders: Sequence[Path], address: Address | None, encoder: Encoder
) -> Iterator[Places]:
    """Open the index at `address`, or one that covers all the folders, or embed their files.

    StoreError for an index that is damaged, or none at `address`; DatasetError without images.
    """
    index = _find(folders, address, encoder)
    if index is None:
        yield _loose(folders, encoder)
        return
    with index:
        yield _indexed(index, folders)


@contextmanager
def open_index(
    folder: Path | None, address: Address | None, encoder: Encoder, *, instead: str = ""
) -> Iterator[Index]:
    """Open the index at `address`, or one that covers a folder or file.

    instead: what the verb does without an index, if anything. ConfigError when there is none.
    """
    index = _find([folder] if folder else [], address, encoder)
    if index is None:
        raise ConfigError(
            f"no index covers {folder or 'what was named'} with the model {encoder.name}; make "
            "one with: miniclip index FOLDER, or say where it lies with --index DIR or --store URI"
            + (f", or {instead}" if instead else "")
        )
    with index:
        yield index


def image_path(index: Index, image: ImageRecord) -> Path:
    """Return where an image lies; of one in an archive: the archive's path, then its name."""
    return index.location.path(image.place) / image.member


def _find(folders: Sequence[Path], address: Address | None, encoder: Encoder) -> Index | None:
    """Return the index to use, with vectors of this model."""
    from miniclip.collection import Index
    from miniclip.index.address import absolute
    from miniclip.index.location import nearby
    from miniclip.index.store import UnknownModelError

    if address:
        return Index.open([], encoder, store=address)
    if not folders:
        return None
    wanted = [absolute(folder) for folder in folders]
    for location in nearby(wanted[0]):
        index = Index.open([], encoder, store=location.address)
        roots = index.roots
        if all(any(path.is_relative_to(root) for root in roots) for path in wanted):
            try:
                _ = index.store
            except UnknownModelError as error:
                note(f"the index {location.address} is not used: {error}")
            else:
                return index
        index.close()
    return None


def part_of(index: Index, folders: Sequence[Path]) -> Filter | None:
    """Return the filter of the images below these folders; None when that is all of them.

    DatasetError for a folder that is neither there nor known to the index.
    """
    from miniclip.index.address import absolute
    from miniclip.index.store import Below, Either

    named = [absolute(folder) for folder in folders]
    parts = tuple(Below(index.location.place(path).path) for path in named)
    for path, part in zip(named, parts, strict=True):
        if not os.path.exists(path) and not index.store.count(part):
            raise DatasetError(
                f"there is no file or folder {path}, and the index {index.address} knows of none; "
                "check the path"
            )
    if not named or all(any(root.is_relative_to(path) for path in named) for root in index.roots):
        return None
    return Either(parts)


def _indexed(index: Index, folders: Sequence[Path]) -> Places:
    from miniclip.index.reading import sources_of

    within = part_of(index, folders)
    count = index.store.count(within)
    if not count:
        raise DatasetError(
            f"the index {index.address} holds no image of "
            f"{', '.join(map(str, folders or index.roots))}; bring it in step with: miniclip index "
            "FOLDER"
        )
    return Places(
        store=index.store,
        path_of=lambda image: _as_named(image_path(index, image), folders),
        sources_of=lambda images: sources_of(index.location, images),
        count=count,
        index=index,
        within=within,
    )


def _as_named(path: Path, folders: Sequence[Path]) -> Path:
    """Write a path as the user wrote its folder, so that an index changes no output."""
    from miniclip.index.address import absolute

    for folder in folders:
        if path.is_relative_to(absolute(folder)):
            return folder / path.relative_to(absolute(folder))
    return path


def _loose(folders: Sequence[Path], encoder: Encoder) -> Places:
    from miniclip.cli.folders import embed_folders
    from miniclip.images import ImageSource
    from miniclip.index.loose import LooseFiles

    found = embed_folders(encoder, folders)
    return Places(
        store=LooseFiles(found.paths, found.embeddings),
        path_of=lambda image: Path(image.path),
        sources_of=lambda images: [ImageSource.of(Path(image.path)) for image in images],
        count=len(found.paths),
        embedded=found.computed,
        skipped=found.skipped,
    )
