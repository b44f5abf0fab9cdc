"""Where search and its relatives look: an index that covers the folders named, or the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniclip.cli.output import note
from miniclip.errors import ConfigError

if TYPE_CHECKING:
    from miniclip.collection import Index
    from miniclip.embed import Skipped
    from miniclip.encoder import Encoder
    from miniclip.images import ImageSource
    from miniclip.index.ask import Searchable
    from miniclip.index.store import Filter, ImageRecord


@dataclass(frozen=True)
class Places:
    """What is searched.

    within: the part of an index that was named, None for all of it. index: None for loose files.
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


@contextmanager
def open_places(
    folders: Sequence[Path], directory: Path | None, encoder: Encoder
) -> Iterator[Places]:
    """Open the index in `directory`, or one that covers all the folders, or embed their files.

    StoreError for an index that is damaged, or none in `directory`; DatasetError without images.
    """
    index = _named(directory, encoder) if directory else covering(folders, encoder)
    if index is None:
        yield _loose(folders, encoder)
        return
    from miniclip.index.reading import sources_of

    with index:
        within = _within(index, folders)
        yield Places(
            store=index.store,
            path_of=lambda image: index.location.path(image.place) / image.member,
            sources_of=lambda images: sources_of(index.location, images),
            count=index.store.count(within),
            index=index,
            within=within,
        )


@contextmanager
def open_index(folder: Path | None, directory: Path | None, encoder: Encoder) -> Iterator[Places]:
    """Open an index as `open_places` does; ConfigError when no index covers the folder."""
    named = [folder] if folder else []
    if not directory and not (folder and covering(named, encoder)):
        raise ConfigError(
            f"there is no index of {folder or 'anything named'} with the model {encoder.name}; "
            f"make one with: miniclip index {folder or 'FOLDER'}"
        )
    with open_places(named, directory, encoder) as places:
        yield places


def covering(folders: Sequence[Path], encoder: Encoder) -> Index | None:
    """Return the index that holds all these folders and files, with vectors of this model."""
    from miniclip.collection import Index
    from miniclip.index.location import absolute, nearby
    from miniclip.index.store import UnknownModelError

    if not folders:
        return None
    wanted = [absolute(folder) for folder in folders]
    for location in nearby(wanted[0]):
        index = Index.open([], encoder, directory=location.directory)
        roots = index.roots
        if all(any(path.is_relative_to(root) for root in roots) for path in wanted):
            try:
                _ = index.store
            except UnknownModelError as error:
                note(f"the index is not used: {error}")
            else:
                return index
        index.close()
    return None


def _named(directory: Path, encoder: Encoder) -> Index:
    from miniclip.collection import Index

    return Index.open([], encoder, directory=directory)


def _within(index: Index, folders: Sequence[Path]) -> Filter | None:
    from miniclip.index.location import absolute
    from miniclip.index.store import Below, Either

    named = [absolute(folder) for folder in folders]
    if not named or all(any(root.is_relative_to(path) for path in named) for root in index.roots):
        return None
    return Either(tuple(Below(index.location.place(path).path) for path in named))


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
