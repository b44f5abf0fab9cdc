"""From the paths that a user names to vectors, with a progress bar; shared by the verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miniclip.cli.output import progress_bar
from miniclip.errors import DatasetError

if TYPE_CHECKING:
    from miniclip.embed import Skipped, Stream
    from miniclip.encoder import Encoder
    from miniclip.index.embed_cached import CachedSet


def list_images(roots: Sequence[Path]) -> tuple[list[Path], list[Skipped]]:
    """List the images below files and folders, and the folders that cannot be listed.

    DatasetError when there is no image at all.
    """
    from miniclip.embed import Skipped
    from miniclip.index.scan import find_images

    unreadable: list[Skipped] = []
    found = find_images(
        roots, on_unreadable=lambda path, why: unreadable.append(Skipped(str(path), why))
    )
    paths = list(dict.fromkeys(found))  # a file may be named beside its folder
    refuse_empty(len(paths), unreadable, roots)
    return paths, unreadable


def embed_folders(
    encoder: Encoder, roots: Sequence[Path], stream: Stream | None = None
) -> CachedSet:
    """Embed the images below files and folders, through the user's cache.

    stream: what runs the encoder; default: this computer. DatasetError when there is no image, or
    none that can be read.
    """
    from miniclip.embed import embed_stream
    from miniclip.index.embed_cached import embed_cached
    from miniclip.index.vector_cache import VectorCache

    paths, unreadable = list_images(roots)
    with VectorCache.open() as cache, progress_bar("embedding", len(paths)) as progress:
        found = embed_cached(
            encoder, paths, cache, progress=progress, stream=stream or embed_stream
        )
    if not found.paths:
        refuse_nothing(found.skipped)
    return replace(found, skipped=(*unreadable, *found.skipped))


def refuse_empty(images: int, skipped: Sequence[Skipped], roots: Sequence[Path]) -> None:
    """Raise DatasetError when there is no image at all."""
    if not images:
        refuse_nothing(skipped)
        named = ", ".join(map(str, roots))
        raise DatasetError(f"there is no image below {named}; name a folder that holds images")


def refuse_nothing(skipped: Sequence[Skipped]) -> None:
    """Raise DatasetError with the first reason, when everything was skipped."""
    if skipped:
        first = skipped[0]
        raise DatasetError(
            f"none of the {len(skipped)} images can be read; the first, {first.name}: "
            f"{first.reason}"
        )
