"""What can be told without looking at the picture: a class that a file's size gives away.

A classifier learns whatever separates the classes of its folder, be it the scanner, the encoder of
the JPEG or the wall behind the object. Here small trees try to tell the class from such facts
alone; where they can, the figures of the real classifier are worth less than they seem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.probe.facts import ImageFacts
from miniclip.probe.intervals import Score, share
from miniclip.probe.splits import Folds
from miniclip.probe.table import FeatureTable

CLEARLY = 0.05  # how far above chance the whole interval has to lie for a warning
_COMMON = 20  # JPEG tables (formats, modes) that get a column of their own
_LEAF = 5  # images
_EDGE = 6  # numbers of `ImageFacts.border` that tell of the edge, before those of the corners

Columns = NDArray[np.float64]


@dataclass(frozen=True)
class Shortcut:
    """How well one kind of fact tells the class.

    name: "size", "encoding", "edge" or "corners". accuracy: held out, over the folds, with a 95 %
    interval over groups. chance: the share of the largest class. warning: a sentence where the
    whole interval lies clearly above chance.
    """

    name: str
    accuracy: Score
    chance: float
    warning: str | None


def probe_shortcuts(
    table: FeatureTable,
    labels: IntArray,
    folds: Folds,
    *,
    groups: IntArray | None = None,
) -> tuple[Shortcut, ...]:
    """Cross-validate a decision tree on each kind of fact.

    labels: (N,) integers. groups: (N,) integers, images that share their luck, for the interval.
    """
    chance = float(np.bincount(labels).max() / len(labels))
    found = []
    for name, (columns, warning) in _KINDS.items():
        hits = _held_out_hits(columns(table.facts), labels, folds)
        accuracy = share(hits, groups, seed=folds.seed)
        clear = accuracy.interval.low > chance + CLEARLY
        figures = f"{accuracy.value:.0%} of the images (the largest class alone: {chance:.0%})"
        found.append(Shortcut(name, accuracy, chance, warning.format(figures) if clear else None))
    return tuple(found)


def _held_out_hits(columns: Columns, labels: IntArray, folds: Folds) -> NDArray[np.bool_]:
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 -- a second to import

    hits = np.zeros(len(labels), dtype=bool)
    for fold in range(folds.count):
        held_out = folds.fold_of == fold
        tree = DecisionTreeClassifier(min_samples_leaf=_LEAF, random_state=folds.seed)
        tree.fit(columns[~held_out], labels[~held_out])
        hits[held_out] = tree.predict(columns[held_out]) == labels[held_out]
    return hits


def _size(facts: Sequence[ImageFacts]) -> Columns:
    rows = np.array([(each.width, each.height, each.bytes) for each in facts], dtype=np.float64)
    width, height, size = rows.T
    return np.column_stack([rows, width / height, size / (width * height)])


def _encoding(facts: Sequence[ImageFacts]) -> Columns:
    """Columns of 0 and 1 for the most common formats, modes and JPEG tables."""
    kinds = (
        [each.file_format for each in facts],
        [each.mode for each in facts],
        [each.jpeg_tables for each in facts],
    )
    columns = []
    for values in kinds:
        names, counts = np.unique(values, return_counts=True)
        common = names[np.argsort(-counts, kind="stable")[:_COMMON]]
        columns.append(np.array(values)[:, None] == common)
    return np.hstack(columns).astype(np.float64)


def _edge(facts: Sequence[ImageFacts]) -> Columns:
    return np.array([each.border[:_EDGE] for each in facts])


def _corners(facts: Sequence[ImageFacts]) -> Columns:
    return np.array([each.border[_EDGE:] for each in facts])


# Name -> what is looked at, and what to say when that is enough to tell the class.
_KINDS: dict[str, tuple[Callable[[Sequence[ImageFacts]], Columns], str]] = {
    "size": (
        _size,
        "Width, height and bytes of the file alone tell the class of {}: the classes may come from "
        "different sources. Take every class from every source, or save all images alike.",
    ),
    "encoding": (
        _encoding,
        "File format, colour mode and JPEG tables alone tell the class of {}: the classes were "
        "saved by different programs. Take every class from every source, or test on images of "
        "a source that the model has not seen.",
    ),
    "edge": (
        _edge,
        "The outermost pixels alone tell the class of {}: frame, margin or background differ from "
        "class to class. Crop the images alike, or photograph every class before every background.",
    ),
    "corners": (
        _corners,
        "The four corners alone tell the class of {}: the background differs from class to class. "
        "Photograph every class before every background.",
    ),
}
