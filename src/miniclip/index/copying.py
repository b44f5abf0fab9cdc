"""Copy an index from one store to another, and prove that it arrived whole.

The proof is a checksum over every image, caption and vector that was read, compared with one over
what the other store gives back. It depends neither on the order nor on ids, nor on how an index
calls its images: places are compared as absolute paths.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError, StoreError
from miniclip.index.location import ROOTS, Location
from miniclip.index.store import Model, NewImage, Place, Store

_PAGE = 1_024
_MODULUS = 1 << 256


@dataclass(frozen=True)
class Copied:
    """What was copied. vectors: of images, by all models; texts: captions with a vector."""

    images: int
    vectors: int
    texts: int
    models: tuple[str, ...]
    checksum: str

    def __str__(self) -> str:
        return (
            f"{self.images:,} images, {self.vectors:,} vectors and {self.texts:,} captions of "
            f"{', '.join(self.models) or 'no model'}; checksum {self.checksum[:16]}"
        )


@dataclass
class Checksum:
    """A sum of hashes, so that the order of what is added does not matter."""

    total: int = 0
    vectors: int = 0
    texts: int = 0

    def add_images(
        self, model: Model, location: Location, images: Sequence[NewImage], vectors: FloatArray
    ) -> None:
        """Add images (n) and their vectors (n, D) by a model."""
        for image, row in zip(images, vectors, strict=True):
            told = [_plain(getattr(image, one.name)) for one in fields(NewImage)]
            path = os.fsencode(location.path(image.place)).hex()
            self._add(model, [path, *told[1:]], row)
            self.vectors += 1

    def add_texts(self, model: Model, texts: Sequence[str], vectors: FloatArray) -> None:
        """Add captions (n) and their vectors (n, D) by a model."""
        for text, row in zip(texts, vectors, strict=True):
            self._add(model, [text], row)
            self.texts += 1

    def __str__(self) -> str:
        return f"{self.total:064x}"

    def _add(self, model: Model, told: list[Any], row: FloatArray) -> None:
        said = json.dumps([model.fingerprint, *told]).encode()
        digest = hashlib.sha256(said + row.astype("<f2").tobytes()).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % _MODULUS


def copy_index(
    source: Location,
    target: Location,
    *,
    rebuild: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Copied:
    """Copy an index with what waits for its return beside it; return what and its checksum.

    rebuild: replace an index that is there; otherwise ConfigError. StoreError when there is nothing
    to copy, or what arrived is not what was sent. progress: told how many vectors are copied.
    """
    if source.address == target.address:
        raise ConfigError(f"{source.address} is copied onto itself; name another place")
    if not source.exists:
        raise StoreError(f"there is no index at {source.address}; make one with miniclip index")
    if target.exists and not rebuild:
        raise ConfigError(
            f"there is an index at {target.address} already; copy elsewhere, or replace it with "
            "--rebuild"
        )
    copied = _copy(source, target, progress or (lambda _done: None))
    attics = (
        replace(source, address=source.address.attic),
        replace(target, address=target.address.attic),
    )
    if attics[0].exists:
        _copy(*attics, lambda _done: None)
    elif attics[1].exists:
        attics[1].address.open(write=True, rebuild=True).close()
    return copied


def checksum(store: Store, location: Location) -> Checksum:
    """Add up everything in an index."""
    total = Checksum()
    for model in store.models():
        store.use_model(model)
        for images, vectors in _pages(store):
            total.add_images(model, location, images, vectors)
        for texts, vectors in store.embedded_texts():
            total.add_texts(model, texts, vectors)
    return total


def _copy(source: Location, target: Location, progress: Callable[[int], None]) -> Copied:
    with (
        closing(source.address.open()) as old,
        closing(target.address.open(write=True, rebuild=True)) as new,
    ):
        sent = Checksum()
        models = old.models()
        for model in models:
            old.use_model(model)
            new.use_model(model)
            for images, vectors in _pages(old):
                new.upsert([_moved(image, source, target) for image in images], vectors)
                sent.add_images(model, source, images, vectors)
                progress(sent.vectors)
            _copy_texts(old, new, model, sent)
        new.remember(_settings(old, source, target))
        new.optimise()
        arrived = checksum(new, target)
        count = new.count()
    if arrived != sent:
        raise StoreError(
            f"what arrived at {target.address} is not what {source.address} holds "
            f"({arrived.vectors} of {sent.vectors} vectors, {arrived.texts} of {sent.texts} "
            "captions); copy it once more with --rebuild"
        )
    return Copied(count, sent.vectors, sent.texts, tuple(model.name for model in models), str(sent))


def _copy_texts(old: Store, new: Store, model: Model, sent: Checksum) -> None:
    for texts, vectors in old.embedded_texts():
        new.add_text_vectors(texts, vectors)
        sent.add_texts(model, texts, vectors)


def _pages(store: Store) -> Iterator[tuple[Sequence[NewImage], FloatArray]]:
    """Iterate over the images with a vector of the model in use, by id."""
    ids = store.ids().tolist()
    for start in range(0, len(ids), _PAGE):
        yield store.embedded(ids[start : start + _PAGE])


def _moved(image: NewImage, source: Location, target: Location) -> NewImage:
    """Call an image as the target does."""
    told = {one.name: getattr(image, one.name) for one in fields(NewImage)}
    place = target.place(source.path(image.place), image.member)
    return NewImage(**{**told, "path": place.path})


def _settings(old: Store, source: Location, target: Location) -> dict[str, str]:
    """Return what holds elsewhere too: not which files failed, which is found again."""
    roots = json.loads(old.settings().get(ROOTS, "[]"))
    paths = (source.path(Place(root)) for root in roots)
    return {ROOTS: json.dumps([target.place(path).path for path in paths])}


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
