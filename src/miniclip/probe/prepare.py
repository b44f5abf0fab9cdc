"""From a labelled data set to images that can be learnt from: readable, unambiguous, grouped.

What cannot be used is named, with a reason, never silently dropped; what makes a fit meaningless
(one class, a class with a single picture) is an error with its cure. It fits and splits nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.datasets.spelling import look_alikes
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.duplicates import Repeats, find_repeats
from miniclip.probe.groups import join_groups
from miniclip.probe.table import FeatureTable, read_table
from miniclip.views import View


@dataclass(frozen=True)
class Prepared:
    """N images with features.

    labels: (N,) int64 in [0, C). part: (N,) of "train", "val", "test". group: (N,) int64; images of
    one group are the same picture, or belong together by the data set's own word. repeats: found
    among these and those that were left out for them. skipped: whatever was left out on the way,
    and why.
    """

    name: str
    classes: tuple[str, ...]
    table: FeatureTable
    labels: IntArray
    part: NDArray[np.str_]
    group: IntArray
    repeats: Repeats
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, *parts: str) -> IntArray:
        """Return the row numbers of the images in these parts."""
        return np.flatnonzero(np.isin(self.part, parts))

    def rows(self, index: IntArray) -> Prepared:
        """Return some of the images, with all the classes: index (M,) row numbers."""
        return replace(
            self,
            table=self.table.rows(index),
            labels=self.labels[index],
            part=self.part[index],
            group=self.group[index],
        )

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over names, contents, labels and parts, whatever folder they lay in."""
        labels = [self.classes[label] for label in self.labels]
        rows = zip(self.table.names, self.table.contents, labels, self.part.tolist(), strict=True)
        return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def prepare(
    encoder: Encoder,
    splits: LabelledSplits,
    cache: VectorCache,
    *,
    views: Sequence[View],
    progress: Progress | None = None,
) -> Prepared:
    """Read features and facts through the cache, find repeats, and join them into groups.

    Files of equal bytes under two labels are left out, all of them: nothing says which is right.
    Raises DatasetError when nothing can be read or nothing could be learnt.
    """
    labelled = splits.labelled
    table = read_table(encoder, labelled.sources, cache, views=views, progress=progress)
    if not len(table):
        first = table.skipped[0]
        raise DatasetError(
            f"none of the {len(labelled)} images of {labelled.name} can be read; the first, "
            f"{first.name}: {first.reason}"
        )
    row_of = {source.name: row for row, source in enumerate(labelled.sources)}
    rows = np.array([row_of[name] for name in table.names])
    repeats = find_repeats(table, labelled.labels[rows])
    given = splits.groups and [splits.groups[row] for row in rows]
    group = join_groups(repeats.group, given)
    torn = _two_labels(table, labelled.labels[rows], labelled.classes)
    kept = np.array([name not in torn for name in table.names])
    if not kept.any():
        raise DatasetError(
            f"every image of {labelled.name} also stands under another label; sort them anew"
        )
    rows = rows[kept]
    skipped = (
        *labelled.skipped,
        *table.skipped,
        *(Skipped(name, reason) for name, reason in torn.items()),
    )
    return Prepared(
        name=labelled.name,
        classes=labelled.classes,
        table=table.rows(kept),
        labels=labelled.labels[rows],
        part=splits.part[rows],
        group=group[kept],
        repeats=repeats,
        skipped=skipped,
        warnings=_warnings(splits, labelled.name),
    )


def check_classes(prepared: Prepared, rows: IntArray) -> None:
    """Raise DatasetError unless the images at `rows` are of all classes, and those at least two."""
    counts = np.bincount(prepared.labels[rows], minlength=len(prepared.classes))
    if (counts > 0).sum() < 2:
        present = [prepared.classes[label] for label in np.flatnonzero(counts)]
        raise DatasetError(
            f"{prepared.name} has readable images of {present[0]!r} alone; "
            "a classifier needs at least two classes, each in a folder (or with a label) of its own"
        )
    if bare := [prepared.classes[label] for label in np.flatnonzero(counts == 0)]:
        raise DatasetError(
            f"{len(bare)} of {len(counts)} classes of {prepared.name} have no readable image to "
            f"learn from: {', '.join(bare[:5])}; add images, or leave the class out of the data"
        )


def _two_labels(table: FeatureTable, labels: IntArray, classes: Sequence[str]) -> dict[str, str]:
    """Find images whose very bytes stand under another label too: name -> reason."""
    members: dict[str, list[int]] = {}
    for row, content in enumerate(table.contents):
        members.setdefault(content, []).append(row)
    torn = {}
    for rows in members.values():
        if len(set(labels[rows].tolist())) > 1:
            copies = ", ".join(f"{table.names[row]} ({classes[labels[row]]})" for row in rows[:4])
            for row in rows:
                torn[table.names[row]] = f"the same file stands under two labels: {copies}"
    return torn


def _warnings(splits: LabelledSplits, name: str) -> tuple[str, ...]:
    said = [
        f"the classes {' and '.join(map(repr, alike))} of {name} differ by their spelling alone "
        "and are kept apart; if they are one, give them one name"
        for alike in look_alikes(splits.labelled.classes)
    ]
    if splits.ungrouped:
        said.append(
            f"{splits.ungrouped} of {len(splits)} images of {name} have no group; each stands alone"
        )
    return tuple(said)
