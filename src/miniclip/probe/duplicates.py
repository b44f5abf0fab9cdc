"""One picture, several files: repeats that would tell the answer to a held-out image.

Byte-identical files are repeats. So are two images that look alike to the perceptual hash and to
the model, each of which is fooled where the other is not: a smaller or harder compressed copy keeps
its hash and moves its features, a cropped one keeps its features and moves its hash. Mirrored and
upside-down copies count as well, since data sets are "augmented" with them before they are
published. Nothing is deleted or judged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.probe.facts import MIRROR_MASKS
from miniclip.probe.groups import join_pairs
from miniclip.probe.table import FeatureTable

MOST_BITS = 16  # of 64 in which the hashes of one picture may differ
SURE = 0.88  # from this cosine on, that is all that is asked
_EQUAL_HASH, _PER_BIT = 0.55, 0.03  # below it: the cosine asked for at equal hashes, and per bit
_BLOCK_CELLS = 1 << 22  # pairs of hashes compared at a time: 32 MiB
_GATHERED = 1024  # pairs of feature rows compared at a time


class RepeatPair(NamedTuple):
    """Two files of one picture; exact: to the byte."""

    first: str
    second: str
    exact: bool


class LabelConflict(NamedTuple):
    """Two files of one picture that stand under two labels, numbers of classes."""

    first: str
    second: str
    first_label: int
    second_label: int


class Pictures(NamedTuple):
    """M images to compare others with.

    contents: sha256 of the files. features: (M, F) of any float dtype, of the plain view. hashes:
    (M,) perceptual ones; None where nobody has kept them.
    """

    contents: tuple[str, ...]
    features: NDArray[Any]
    hashes: NDArray[np.uint64] | None


@dataclass(frozen=True)
class Repeats:
    """Which of N images are the same picture.

    group: (N,) int64, equal for images of one picture, numbered in order of appearance. exact:
    byte-identical files beyond the first of each. near: other files beyond the first of each group.
    pairs: every one of these files, second, with a file that it looks like. conflicting: all pairs
    under two labels.
    """

    group: IntArray
    exact: int
    near: int
    pairs: tuple[RepeatPair, ...] = field(repr=False)
    conflicting: tuple[LabelConflict, ...] = field(repr=False)


def find_repeats(table: FeatureTable, labels: IntArray) -> Repeats:
    """Find repeats among N images; labels (N,) integers tell which of them conflict.

    Two images are one picture when the cosine of their features (plain view, less the mean of the
    data set) reaches what `cosine_needed` asks for at the distance of their perceptual hashes;
    chains join. Looked at on the public brain-MRI set: of 35 random pairs 31 are one slice, many of
    them mirrored or brightened, and 4 neighbouring slices of one head; on TrashNet 28 of 29 pairs
    show one object. Time grows with N^2, two minutes for 100,000 photos; memory with N.
    """
    _, first, content_of = np.unique(table.contents, return_index=True, return_inverse=True)
    original = first[content_of]  # the first image of the same bytes
    copies = np.flatnonzero(original != np.arange(len(table)))
    exact = np.column_stack([original[copies], copies])
    first = np.sort(first)
    mean = table.pooled.sum(axis=0) / max(len(table), 1)
    near = first[_near_pairs(table.hashes[first], unit_rows(table.pooled[first] - mean))]
    pairs = np.concatenate([exact, near])
    group = join_pairs(pairs, len(table))
    torn = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    names = table.names
    return Repeats(
        group=group,
        exact=len(exact),
        near=len(first) - len(np.unique(group)),
        pairs=tuple(
            RepeatPair(names[one], names[other], bool(original[one] == original[other]))
            for one, other in _once_each(pairs, group).tolist()
        ),
        conflicting=tuple(
            LabelConflict(names[one], names[other], int(labels[one]), int(labels[other]))
            for one, other in torn.tolist()
        ),
    )


def find_known(table: FeatureTable, known: Pictures) -> IntArray:
    """Find for each of N images a known one that shows the same picture: (N,) rows, -1 for none.

    As `find_repeats`, less the mean of the known ones; the same bytes come first. Without hashes
    the same bytes are all that is looked for.
    """
    row_of: dict[str, int] = {}
    for row, content in enumerate(known.contents):
        row_of.setdefault(content, row)
    found = np.array([row_of.get(content, -1) for content in table.contents], dtype=np.int64)
    others = np.flatnonzero(found < 0)
    if known.hashes is None or not len(others) or not row_of:
        return found
    features = known.features.astype(np.float32)
    mean = features.mean(axis=0)
    pairs = _near_pairs(
        table.hashes[others],
        unit_rows(table.pooled[others] - mean),
        (known.hashes, unit_rows(features - mean)),
    )
    found[others[pairs[::-1, 0]]] = pairs[::-1, 1]  # backwards, so that the first one stays
    return found


def cosine_needed(bits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine at which two images are one picture, of the bits their hashes differ in.

    The farther the hashes, the more the features have to say: 0.55 at equal hashes and 0.03 more
    per bit up to 0.88; above 16 bits nothing is enough. Measured on copies of 60 photos and slices
    (halved, enlarged, JPEG quality 20, brighter, darker, grey, cropped) against pairs that people
    would call different.
    """
    asked = np.minimum(_EQUAL_HASH + _PER_BIT * bits.astype(np.float64), SURE)
    return np.where(bits <= MOST_BITS, asked, np.inf)


def _near_pairs(
    hashes: NDArray[np.uint64],
    features: FloatArray,
    others: tuple[NDArray[np.uint64], FloatArray] | None = None,
) -> IntArray:
    """Pairs (M, 2) of one picture; hashes (N,), features (N, F) unit rows; others: another set."""
    other_hashes, other_features = others or (None, features)
    found = [np.empty((0, 2), dtype=np.int64)]
    for candidates, bits in near_hashes(hashes, other_hashes):
        needed = cosine_needed(bits)
        for start in range(0, len(candidates), _GATHERED):
            some = candidates[start : start + _GATHERED]
            cosines = np.einsum("mf,mf->m", features[some[:, 0]], other_features[some[:, 1]])
            found.append(some[cosines >= needed[start : start + _GATHERED]])
    return np.concatenate(found)


def near_hashes(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None = None
) -> Iterator[tuple[IntArray, NDArray[np.uint8]]]:
    """Yield pairs (m, 2) of row numbers, the smaller first, and the bits between them (m,).

    A block of rows at a time. The distance is the least over the mirror images of one of the two.
    others: (M,) of another set; then every pair has a row of each set.
    """
    against = hashes if others is None else others
    step = max(1, _BLOCK_CELLS // max(len(against), 1))
    for start in range(0, len(hashes), step):
        after = start if others is None else 0
        differing = hashes[start : start + step, None] ^ against[None, after:]
        bits = np.bitwise_count(differing)
        for mask in MIRROR_MASKS:
            np.minimum(bits, np.bitwise_count(differing ^ np.uint64(mask)), out=bits)
        rows, columns = np.nonzero(bits <= MOST_BITS)
        if others is None:
            later = columns > rows
            rows, columns = rows[later], columns[later]
        yield np.column_stack([rows + start, columns + after]), bits[rows, columns]


def _once_each(pairs: IntArray, group: IntArray) -> IntArray:
    """Return one pair (partner, file) for every file that is not the first of its group."""
    partner, file = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.lexsort((partner, file))
    files, at = np.unique(file[order], return_index=True)
    _, firsts = np.unique(group, return_index=True)
    repeated = ~np.isin(files, firsts)
    return np.column_stack([partner[order][at], files])[repeated]
