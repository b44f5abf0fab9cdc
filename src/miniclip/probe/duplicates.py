"""One picture, several files: repeats that would tell the answer to a held-out image.

Byte-identical files are repeats; so are two images that look alike to the perceptual hash and to
the model, each of which is fooled where the other is not: scans of two heads have nearly the same
hash, two photos of one bottle nearly the same features. Nothing is deleted or judged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.probe.groups import join_pairs
from miniclip.probe.table import FeatureTable

COSINE = 0.95
HAMMING = 8  # of 64 bits
_BLOCK_CELLS = 1 << 23  # pairs of hashes compared at a time: 64 MiB
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


@dataclass(frozen=True)
class Repeats:
    """Which of N images are the same picture.

    group: (N,) int64, equal for images of one picture, numbered in order of appearance. exact:
    byte-identical files beyond the first of each. near: other files beyond the first of each group.
    pairs: each repeat with the first image of its content, or one that it looks like.
    conflicting: pairs under two labels, both exact and near.
    """

    group: IntArray
    exact: int
    near: int
    pairs: tuple[RepeatPair, ...] = field(repr=False)
    conflicting: tuple[LabelConflict, ...] = field(repr=False)


def find_repeats(
    table: FeatureTable, labels: IntArray, *, cosine: float = COSINE, hamming: int = HAMMING
) -> Repeats:
    """Find repeats among N images; labels (N,) integers tell which of them conflict.

    Two images are one picture when their perceptual hashes differ in at most `hamming` of 64 bits
    and the cosine of their features (plain view, less the mean of the data set) is at least
    `cosine`; chains join. Time grows with N^2 (half a minute for 100,000 images), memory with N.
    """
    _, first, content_of = np.unique(table.contents, return_index=True, return_inverse=True)
    original = first[content_of]  # the first image of the same bytes
    copies = np.flatnonzero(original != np.arange(len(table)))
    exact = np.column_stack([original[copies], copies])
    first = np.sort(first)
    hashes = np.array([table.facts[row].perceptual_hash for row in first], dtype=np.uint64)
    features = unit_rows(
        table.features[0, first] - table.features[0].sum(axis=0) / max(len(table), 1)
    )
    near = first[_near_pairs(hashes, features, cosine, hamming)]
    pairs = np.concatenate([exact, near])
    group = join_pairs(pairs, len(table))
    torn = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    names = table.names
    return Repeats(
        group=group,
        exact=len(exact),
        near=len(first) - len(np.unique(group)),
        pairs=tuple(
            RepeatPair(names[one], names[other], is_exact)
            for found, is_exact in ((exact, True), (near, False))
            for one, other in found.tolist()
        ),
        conflicting=tuple(
            LabelConflict(names[one], names[other], int(labels[one]), int(labels[other]))
            for one, other in torn.tolist()
        ),
    )


def _near_pairs(
    hashes: NDArray[np.uint64], features: FloatArray, cosine: float, hamming: int
) -> IntArray:
    """Pairs (M, 2) that pass both tests; hashes (N,), features (N, F) unit rows."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for candidates in _near_hashes(hashes, hamming):
        for start in range(0, len(candidates), _GATHERED):
            some = candidates[start : start + _GATHERED]
            cosines = np.einsum("mf,mf->m", features[some[:, 0]], features[some[:, 1]])
            found.append(some[cosines >= cosine])
    return np.concatenate(found)


def _near_hashes(hashes: NDArray[np.uint64], hamming: int) -> Iterator[IntArray]:
    """Yield pairs (m, 2) of row numbers, the smaller one first, a block of rows at a time."""
    step = max(1, _BLOCK_CELLS // max(len(hashes), 1))
    for start in range(0, len(hashes), step):
        block = hashes[start : start + step, None]
        bits = np.bitwise_count(block ^ hashes[None, start:])
        rows, columns = np.nonzero(bits <= hamming)
        later = columns > rows
        yield np.column_stack([rows[later], columns[later]]) + start
