"""Find pictures that are there more than once: copies, other sizes, other compression.

The pictures themselves decide, by the correlation of small grey copies. The vectors of a model do
not: they move when a picture is made smaller, and hardly between slices of one scan. They serve to
group what is merely similar, such as bursts. Mirrored and cropped copies are not found. Nothing is
deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniclip.arrays import FloatArray, unit_rows
from miniclip.embed import Progress
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, decode

if TYPE_CHECKING:
    from miniclip.index.store import Filter, ImageRecord, Store

CORRELATION = 0.97  # of grey copies, from which two pictures are one; measured: docs/duplicates.md
COSINE = 0.95  # of vectors, from which two pictures are similar
_GREY_SIDE = 32  # pixels
_FLAT = 0.01  # standard deviation of a grey copy (0..1) below which it shows nothing to compare
_SHAPE = 0.05  # by which the logarithms of width / height may differ
_BLOCK = 1_024
_AT_ONCE = 128  # images in memory

SourcesOf = Callable[[Sequence["ImageRecord"]], Sequence[ImageSource]]


@dataclass(frozen=True)
class Group:
    """Images that show the same picture. keep: the one to keep; rest: the others, best first.

    alike: the lowest correlation (or cosine, when vectors decided) between keep and another one.
    """

    keep: ImageRecord
    rest: tuple[ImageRecord, ...]
    alike: float

    @property
    def wasted_bytes(self) -> int:
        """How many bytes the others take."""
        return sum(image.size for image in self.rest)


def find_groups(
    store: Store,
    sources_of: SourcesOf,
    *,
    similar: float | None = None,
    where: Filter | None = None,
    progress: Progress | None = None,
) -> list[Group]:
    """Group the images of an index that show the same picture, the largest waste first.

    sources_of: where images can be read. similar: let vectors decide, from this cosine on, and open
    no image. where: only among these images. progress: called with the number of images looked at.

    Files of equal content always belong together. Groups grow by pairs: if A is B and B is C, they
    are one group. Every image is decoded once; then all pairs are compared, so that time grows with
    the square of the collection. ConfigError unless similar is above 0 and at most 1.
    """
    if similar is not None and not 0 < similar <= 1:
        raise ConfigError(f"the cosine is {similar:g}; give a number above 0 and up to 1")
    ids = store.ids(where).tolist()
    images: list[ImageRecord] = []
    parts: list[FloatArray] = []
    for start in range(0, len(ids), _AT_ONCE):
        records, vectors = store.embedded(ids[start : start + _AT_ONCE])
        images += records
        rows = vectors if similar else grey_rows(sources_of(records))
        parts.append(rows.astype(np.float16))  # half the memory, and exact enough to compare
        if progress:
            progress(min(start + _AT_ONCE, len(ids)))
    if not images:
        return []
    rows = np.concatenate(parts)
    union = _Union(len(images))
    _join_equal(union, [image.content for image in images])
    shapes = np.zeros(len(images)) if similar else np.array([_shape(image) for image in images])
    for row, other in alike_pairs(rows, similar or CORRELATION):
        if abs(shapes[row] - shapes[other]) <= _SHAPE:
            union.join(row, other)
    groups = [_group(members, images, rows) for members in union.groups()]
    return sorted(groups, key=lambda group: (-group.wasted_bytes, group.keep.place))


def grey_rows(sources: Sequence[ImageSource]) -> FloatArray:
    """Return small grey copies as (N, 1024) float32 rows whose dot products are correlations.

    The row of an image that cannot be read, or is one grey all over, is zero: it is like no other.
    """
    with ThreadPoolExecutor(thread_name_prefix="miniclip-grey") as pool:
        copies = list(pool.map(_grey_copy, sources))
    if not copies:
        return np.empty((0, _GREY_SIDE**2), dtype=np.float32)
    rows = np.stack(copies).reshape(len(copies), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows[rows.std(axis=1) < _FLAT] = 0
    return unit_rows(rows)


def fold(embeddings: FloatArray, greys: FloatArray | None = None) -> list[list[int]]:
    """Group the rows of one result: each row joins the first kept row that it resembles.

    embeddings: (N, D) float32 unit rows, best hit first; greys: their `grey_rows`, if at hand: it
    is enough to be alike in one of them. Returns lists of row numbers, each with its kept row
    first, in the order of the kept rows.
    """
    alike = embeddings @ embeddings.T >= COSINE
    if greys is not None:
        alike |= greys @ greys.T >= CORRELATION
    groups: list[list[int]] = []
    for row in range(len(embeddings)):
        home = next((group for group in groups if alike[group[0], row]), None)
        if home is None:
            groups.append([row])
        else:
            home.append(row)
    return groups


def _group(members: Sequence[int], images: Sequence[ImageRecord], rows: FloatArray) -> Group:
    first, *others = sorted(members, key=lambda row: _worth(images[row]))
    alike = rows[others].astype(np.float32) @ rows[first].astype(np.float32)
    equal = [images[row].content == images[first].content for row in others]
    lowest = float(np.where(equal, 1.0, alike).min())
    return Group(images[first], tuple(images[row] for row in others), min(lowest, 1.0))


def _worth(image: ImageRecord) -> tuple[int, int, int, int, str]:
    """Sort the picture to keep first: most pixels, most bytes, oldest, shortest name."""
    name = image.path + image.member
    return (-image.width * image.height, -image.size, image.mtime_ns, len(name), name)


def _shape(image: ImageRecord) -> float:
    """Return the logarithm of width / height; 0 when they are unknown."""
    return float(np.log(image.width / image.height)) if image.width and image.height else 0.0


def _grey_copy(source: ImageSource) -> FloatArray:
    try:
        image = decode(source, at_least=2 * _GREY_SIDE)
    except ImageError:
        return np.zeros((_GREY_SIDE, _GREY_SIDE), dtype=np.float32)
    small = image.convert("L").resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _join_equal(union: _Union, contents: Sequence[bytes]) -> None:
    first: dict[bytes, int] = {}
    for row, content in enumerate(contents):
        union.join(first.setdefault(content, row), row)


def alike_pairs(rows: NDArray[Any], least: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows, the earlier first, whose dot product is at least `least`."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float32)
        for column in range(start, len(rows), _BLOCK):
            products = block @ rows[column : column + _BLOCK].astype(np.float32).T
            for one, other in np.argwhere(products >= least):
                if column + other > start + one:
                    yield int(start + one), int(column + other)


class _Union:
    """Disjoint sets of rows, joined pair by pair (union-find with path halving)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def groups(self) -> list[list[int]]:
        """Return the sets of two rows and more."""
        members: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            members.setdefault(self.find(row), []).append(row)
        return [rows for rows in members.values() if len(rows) > 1]
