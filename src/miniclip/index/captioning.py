"""Captions of an index: attach those of a file to the images, and embed them for `match`.

The captions of WebDataset shards and tables come with their images and need no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from miniclip.datasets.captions import CaptionSet, read_captions
from miniclip.embed import Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.index.address import absolute
from miniclip.index.location import Location
from miniclip.index.store import NewImage, Place, Store

_AT_ONCE = 1024
_TEXTS_AT_ONCE = 256
_ASKED_AT_ONCE = 100_000  # captions in memory


def captions_below(file: Path, roots: Sequence[Path]) -> CaptionSet:
    """Read a caption file whose image names are relative to one of the roots, or to itself.

    Errors as for `read_captions`, of the place that gave the most.
    """
    best: CaptionSet | None = None
    first: DatasetError | None = None
    for folder in dict.fromkeys((*roots, absolute(file).parent)):
        try:
            found = read_captions(file, folder)
        except DatasetError as error:
            first = first or error
            continue
        if best is None or len(found) > len(best):
            best = found
    if best is None:
        assert first is not None  # there is at least the file's own folder
        raise first
    return best


def attach(store: Store, location: Location, captions: CaptionSet) -> tuple[int, list[Skipped]]:
    """Give images of the index their captions, in place of older ones.

    Returns how many images have other captions now, and the captioned images not in the index.
    """
    wanted: dict[Place, tuple[str, ...]] = {}
    for image in captions.images:
        if path := image.source.path:
            wanted[location.place(absolute(path))] = image.captions
    ids = {image.place: image.id for image in store.known() if image.place in wanted}
    changed = 0
    captioned = list(ids.values())
    for start in range(0, len(captioned), _AT_ONCE):
        updates: dict[int, NewImage] = {
            record.id: replace(record, captions=wanted[record.place])
            for record in store.records(captioned[start : start + _AT_ONCE])
            if record.captions != wanted[record.place]
        }
        if updates:
            store.update(updates)
            changed += len(updates)
    missing = [
        Skipped(str(location.path(place)), "has captions, but is not in the index")
        for place in wanted.keys() - ids.keys()
    ]
    return changed, sorted(missing, key=lambda entry: entry.name)


def embed_captions(
    store: Store, encoder: Encoder, progress: Callable[[int, int], None] | None = None
) -> int:
    """Embed the captions that have no vector yet; return how many. Each batch is durable.

    progress: called with how many are done, of how many.
    """
    done = 0
    while texts := store.texts_to_embed(_ASKED_AT_ONCE):
        total = done + len(texts)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            batch = texts[start : start + _TEXTS_AT_ONCE]
            store.add_text_vectors(batch, encoder.encode_texts(batch))
            done += len(batch)
            if progress:
                progress(done, total)
    return done
