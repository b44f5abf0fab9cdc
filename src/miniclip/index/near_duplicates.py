"""Find pictures that are there more than once: copies, other sizes, other compression.

Two steps. Vectors propose pairs (a cosine); the pictures themselves decide, by the correlation of
small grey copies. The model alone would take frames of a series, or slices of one scan, for one
picture. Turned, mirrored or strongly cropped copies are not found. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.embed import Progress
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, decode

if TYPE_CHECKING:
    from miniclip.index.store import Filter, ImageRecord, Store

COSINE = 0.95  # what vectors propose; see docs/duplicates.md for the measurement
CORRELATION = 0.97  # what pictures decide
_GREY_SIDE = 32  # pixels of the small copies that are compared
_BLOCK = 1_024
_EXACT_UP_TO = 200_000  # images; above, the nearest of the index are asked for, one by one
_NEAREST = 20

LooksLike = Callable[["ImageRecord", "ImageRecord"], bool]


@dataclass(frozen=True)
class Group:
    """Images that show the same picture. keep: the one to keep; rest: the others, best first.

    alike: the lowest cosine between the kept image and another one of the group.
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
    *,
    looks_like: LooksLike | None,
    cosine: float = COSINE,
    where: Filter | None = None,
    progress: Progress | None = None,
) -> list[Group]:
    """Group the images of an index that show the same picture, the largest waste first.

    cosine: from which two images are compared at all, above 0 and up to 1. looks_like: decides on
    such a pair (`same_picture`); None: the vectors decide. Files of equal content always belong
    together. where: only among these images. Groups grow by pairs: if A is B and B is C, they are
    one group.
    """
    if not 0 < cosine <= 1:
        raise ConfigError(f"the cosine is {cosine:g}; give a number above 0 and up to 1")
    asked = set(store.ids(where).tolist())
    known = (image for image in store.known() if image.embedded and image.id in asked)
    contents = {image.id: image.content for image in known}
    ids = sorted(contents)
    united = _Union(len(ids))
    for done, row, others in _alike(store, ids, cosine):
        for other in others:
            if united.find(row) == united.find(other):
                continue
            pair = (ids[row], ids[other])
            if contents[pair[0]] == contents[pair[1]] or _looks(store, pair, looks_like):
                united.join(row, other)
        if progress:
            progress(done)
    groups = []
    for rows in united.groups():
        members, vectors = store.embedded([ids[row] for row in rows])
        if len(members) > 1:
            order = sorted(range(len(members)), key=lambda row: _worth(members[row]))
            first, *others = order
            lowest = float((vectors[others] @ vectors[first]).min())
            rest = tuple(members[row] for row in others)
            groups.append(Group(members[first], rest, min(lowest, 1.0)))
    return sorted(groups, key=lambda group: (-group.wasted_bytes, group.keep.place))


def same_picture(
    source_of: Callable[[ImageRecord], ImageSource], *, correlation: float = CORRELATION
) -> LooksLike:
    """Return a judge of pairs: the Pearson correlation of grey copies of 32 x 32 pixels.

    source_of: where the bytes of an image are. An image that cannot be read looks like no other;
    flat pictures (one grey all over) are alike when their greys are.
    """
    remembered: dict[int, FloatArray | None] = {}

    def grey(image: ImageRecord) -> FloatArray | None:
        if image.id not in remembered:
            if len(remembered) > 10_000:
                remembered.clear()
            remembered[image.id] = _grey_copy(source_of(image))
        return remembered[image.id]

    def judge(one: ImageRecord, other: ImageRecord) -> bool:
        first, second = grey(one), grey(other)
        if first is None or second is None or abs(_shape(one) - _shape(other)) > 0.05:
            return False
        first, second = first - first.mean(), second - second.mean()
        lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
        if lengths < 1e-3:
            return bool(np.abs(grey(one) - grey(other)).max() < 0.02)  # type: ignore[operator]
        return float((first * second).sum()) / lengths >= correlation

    return judge


def _looks(store: Store, pair: tuple[int, int], looks_like: LooksLike | None) -> bool:
    if looks_like is None:
        return True
    images = store.records(pair)
    return len(images) == 2 and looks_like(*images)  # one may have been deleted meanwhile


def fold(embeddings: FloatArray, *, cosine: float = COSINE) -> list[list[int]]:
    """Group the rows of one result: each row joins the first kept row that it resembles.

    embeddings: (N, D) float32 unit rows, best hit first. Returns lists of row numbers, each with
    its kept row first, in the order of the kept rows.
    """
    groups: list[list[int]] = []
    for row, vector in enumerate(embeddings):
        home = next((g for g in groups if float(embeddings[g[0]] @ vector) >= cosine), None)
        if home is None:
            groups.append([row])
        else:
            home.append(row)
    return groups


def _worth(image: ImageRecord) -> tuple[int, int, int, int, str]:
    """Sort the picture to keep first: most pixels, most bytes, oldest, shortest name."""
    return (
        -image.width * image.height,
        -image.size,
        image.mtime_ns,
        len(image.path) + len(image.member),
        image.path + image.member,
    )


def _shape(image: ImageRecord) -> float:
    """Return the logarithm of width / height; 0 when they are unknown."""
    return float(np.log(image.width / image.height)) if image.width and image.height else 0.0


def _grey_copy(source: ImageSource) -> FloatArray | None:
    try:
        image = decode(source, at_least=2 * _GREY_SIDE)
    except ImageError:
        return None
    small = image.convert("L").resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _alike(store: Store, ids: Sequence[int], cosine: float) -> Iterator[tuple[int, int, list[int]]]:
    """Yield how many rows are done, a row, and the later rows that resemble it."""
    if len(ids) > _EXACT_UP_TO:
        row_of = {identity: row for row, identity in enumerate(ids)}
        for row, vector in enumerate(_rows(store, ids)):
            near = store.nearest(vector, top=_NEAREST)
            found = [row_of[hit.id] for hit in near if hit.cosine >= cosine and hit.id in row_of]
            yield row + 1, row, [other for other in found if other != row]
        return
    every = store.vectors(ids)
    for start in range(0, len(ids), _BLOCK):
        cosines = every[start : start + _BLOCK] @ every[start:].T
        for offset, line in enumerate(cosines):
            row = start + offset
            later = np.flatnonzero(line[offset + 1 :] >= cosine) + row + 1
            yield row + 1, row, later.tolist()


def _rows(store: Store, ids: Sequence[int]) -> Iterator[FloatArray]:
    for start in range(0, len(ids), _BLOCK):
        yield from store.vectors(ids[start : start + _BLOCK])


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
