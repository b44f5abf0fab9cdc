"""What every store refuses before it does anything: impossible vectors, places, queries.

Pure functions; what a filter may say is in `filter_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError, StoreError
from miniclip.index.store import REBUILD, Model, NewImage, UnknownModelError

_UNIT_ERROR = 1e-2


def check_model(model: Model, held: Iterable[Model], index: object, *, may_add: bool) -> bool:
    """Return whether the index holds the model; StoreError when it cannot be used there."""
    known = {one.fingerprint: one for one in held}
    same = known.get(model.fingerprint)
    if same and same.dim != model.dim:
        raise StoreError(
            f"the model {model.name} makes vectors of {model.dim} numbers, but those of the "
            f"same model in the index {index} have {same.dim}; {REBUILD}"
        )
    if not same and not may_add:
        names = ", ".join(sorted(one.name for one in known.values())) or "no model yet"
        raise UnknownModelError(
            f"the index {index} holds vectors of {names}, not of {model.name} "
            f"({model.fingerprint[:12]}); search with that model, or run miniclip index "
            "with this one: the index can hold both"
        )
    return same is not None


def check_places(images: Iterable[NewImage]) -> None:
    """Refuse two images at one place."""
    for place, count in Counter(image.place for image in images).items():
        if count > 1:
            raise StoreError(f"{place} is given {count} times at once; give each place once")


def check_contents(images: Mapping[int, NewImage], found: Mapping[int, bytes]) -> None:
    """Refuse an update of images that are not there, or whose content is another."""
    for number, image in images.items():
        if found.get(number) != image.content:
            why = "has another content" if number in found else "does not exist"
            raise StoreError(
                f"image {number} {why}, so {image.place} cannot be its new state; upsert it"
            )


def check_vectors(vectors: FloatArray, names: Sequence[object], model: Model) -> None:
    """Refuse vectors that are not one unit row (D,) to each name."""
    if vectors.shape != (len(names), model.dim):
        raise StoreError(
            f"{vectors.shape} vectors for {len(names)} items of {model.name}, whose vectors have "
            f"{model.dim} numbers; give one row to each"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(abs(lengths - 1) < _UNIT_ERROR))
    if len(wrong):
        raise StoreError(
            f"the vector of {names[wrong[0]]} has the length {lengths[wrong[0]]:.3g}; "
            "give rows of length 1"
        )


def check_query(query: FloatArray, model: Model) -> None:
    """Refuse a query that is no vector (D,) of the model."""
    if query.shape != (model.dim,) or not np.isfinite(query).all():
        raise StoreError(
            f"the query is {query.dtype} {query.shape}; the vectors of {model.name} "
            f"have {model.dim} finite numbers: search with the model that made them"
        )


def check_top(top: int) -> None:
    """Refuse to look for nothing."""
    if top < 1:
        raise ConfigError(f"top is {top}; ask for at least 1 result")


def no_vector(kind: str, item: int, model: Model) -> StoreError:
    """Return the error for an item that lacks a vector of the model."""
    return StoreError(f"{kind} {item} has no vector of the model {model.name}; index it first")
