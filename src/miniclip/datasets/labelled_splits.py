"""Labelled images for a classifier: their classes, the parts they were split into, their groups.

Reads class folders, train/val/test folders of class folders, or a table with the columns path and
label and perhaps group and split. It opens no image and splits nothing itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniclip.datasets.folders import (
    PART_OF_NAME,
    LabelledImages,
    class_names,
    read_labelled,
)
from miniclip.datasets.rows import Columns, text_lines
from miniclip.datasets.tables import header_of, read_table
from miniclip.embed import Skipped
from miniclip.errors import ConfigError, DatasetError
from miniclip.textfile import Line

PARTS = ("train", "val", "test")
_GROUP_KEYS = ("group", "groups", "group_id", "patient", "patient_id", "subject", "subject_id")
_SPLIT_KEYS = ("split", "part", "subset", "fold")


@dataclass(frozen=True)
class LabelledSplits:
    """N labelled images, and what the data set says about how to split them.

    part: (N,) of "train", "val" and "test"; all "train" where the data set says nothing. groups: N
    keys, such as patients; images of one key belong together. None where the data set names none.
    ungrouped: how many images the regular expression did not match, or whose cell is empty; each
    of them is a group of its own.
    """

    labelled: LabelledImages
    part: NDArray[np.str_]
    groups: tuple[str, ...] | None = None
    ungrouped: int = 0

    def __len__(self) -> int:
        return len(self.labelled)

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> LabelledSplits:
        """Return some of the images, with all the classes: index (M,) integers or (N,) bool."""
        chosen = np.arange(len(self))[index].tolist()
        labelled = replace(
            self.labelled,
            sources=tuple(self.labelled.sources[row] for row in chosen),
            labels=self.labelled.labels[chosen],
        )
        groups = self.groups and tuple(self.groups[row] for row in chosen)
        return replace(self, labelled=labelled, part=self.part[chosen], groups=groups)


def read_labelled_splits(
    data: Path,
    labels: Path | None = None,
    /,
    *,
    group_regex: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
) -> LabelledSplits:
    """Read a data set for `miniclip fit` or to judge what it has fitted.

    labels: what classes are called in prompts, as for `read_labelled`. group_regex: searched for in
    each file's name, or in its path below `data` if the expression holds a slash; what its first
    bracket matches, else all of the match, is the group. The columns are those of a table, where
    they have unusual names. Raises DatasetError when nothing usable is found or a split has an
    unknown name, ConfigError for an expression that fits no image.
    """
    if os.path.isdir(data):
        for option, value in (("group_column", group_column), ("split_column", split_column)):
            if value is not None:
                raise ConfigError(f"{option} is {value!r}, but {data} is a folder and no table")
        splits = _read_folders(data, labels)
    else:
        labelled = read_labelled(data, labels, image_column=image_column, label_column=label_column)
        splits = _with_columns(labelled, data, image_column, group_column, split_column)
    return _grouped_by_name(splits, group_regex) if group_regex else splits


def _read_folders(root: Path, labels: Path | None) -> LabelledSplits:
    try:
        folders = sorted(
            entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
    except OSError:
        folders = []  # `read_labelled` says why
    if not folders or any(folder.name.lower() not in PART_OF_NAME for folder in folders):
        return _all_train(read_labelled(root, labels))
    return _joined(root, {folder: read_labelled(folder) for folder in folders}, labels)


def _joined(
    root: Path, by_folder: Mapping[Path, LabelledImages], labels: Path | None
) -> LabelledSplits:
    """Put the folders of a split data set together; a class may be missing in some of them."""
    folder_of = [
        source.name.partition("/")[0] for part in by_folder.values() for source in part.sources
    ]
    keys = sorted(set(folder_of))
    classes, class_of = class_names(keys, labels)
    number_of = dict(zip(keys, class_of.tolist(), strict=True))
    labelled = LabelledImages(
        name=root.resolve().name,
        sources=tuple(
            replace(source, name=f"{folder.name}/{source.name}")
            for folder, part in by_folder.items()
            for source in part.sources
        ),
        labels=np.array([number_of[folder] for folder in folder_of], dtype=np.int64),
        classes=classes,
        skipped=tuple(skipped for part in by_folder.values() for skipped in part.skipped),
    )
    parts = [PART_OF_NAME[folder.name.lower()] for folder in by_folder]
    return LabelledSplits(labelled, np.repeat(parts, [len(part) for part in by_folder.values()]))


def _all_train(labelled: LabelledImages) -> LabelledSplits:
    return LabelledSplits(labelled, np.full(len(labelled), "train"))


def _with_columns(
    labelled: LabelledImages,
    table: Path,
    image_column: str | None,
    group_column: str | None,
    split_column: str | None,
) -> LabelledSplits:
    """Add the columns group and split of a table that has them."""
    splits = _all_train(labelled)
    names = [source.name for source in labelled.sources]
    cells = _split_cells(table, image_column, split_column)
    if cells is not None:
        parts = [cells.get(name, "") for name in names]
        for name, part in zip(names, parts, strict=True):
            if part.lower() not in PART_OF_NAME:
                raise DatasetError(
                    f"{table} puts {name} into the split {part!r}; write train, val or test"
                )
        splits = replace(splits, part=np.array([PART_OF_NAME[part.lower()] for part in parts]))
    cells = _column(table, Columns(image_column, group_column, _GROUP_KEYS), group_column)
    return splits if cells is None else _grouped(splits, [cells.get(name, "") for name in names])


def _split_cells(
    table: Path, image_column: str | None, split_column: str | None
) -> dict[str, str] | None:
    """Cells that say which part an image is of; None when the table does not say.

    A column by one of the looser names that names no part at all, such as the number of a fold or
    a part of the body, is a column like any other.
    """
    if split_column is not None:
        return _column(table, Columns(image_column, split_column), split_column)
    for key in _SPLIT_KEYS:
        cells = _column(table, Columns(image_column, None, (key,)), None)
        says = cells and any(cell.lower() in PART_OF_NAME for cell in cells.values())
        if cells is not None and (says or key == _SPLIT_KEYS[0]):
            return cells
    return None


def _column(table: Path, columns: Columns, asked_for: str | None) -> dict[str, str] | None:
    """Cells of one more column by image; None when there is none and none was asked for."""
    first = next((line.text for line in text_lines(table) if isinstance(line, Line)), "")
    if asked_for is None and header_of(first, columns) is None:
        return None
    cells: dict[str, str] = {}
    for row in read_table(table, columns):
        if not isinstance(row, Skipped):
            cells.setdefault(row.image, row.caption.strip())  # the first row counts, as for labels
    return cells


def _grouped_by_name(splits: LabelledSplits, expression: str) -> LabelledSplits:
    if splits.groups is not None:
        raise ConfigError("the table has a group column; leave the regular expression out")
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(
            f"{expression!r} is no regular expression ({error}); write one such as '(patient\\d+)'"
        ) from error
    names = [source.name for source in splits.labelled.sources]
    if "/" not in expression:
        names = [name.rpartition("/")[2] for name in names]
    keys = [
        (found[1] if pattern.groups else found[0]) or "" if (found := pattern.search(name)) else ""
        for name in names
    ]
    if not any(keys):
        raise ConfigError(
            f"{expression!r} matches none of {len(names)} file names, such as {names[0]}; "
            "test it on that name"
        )
    return _grouped(splits, keys)


def _grouped(splits: LabelledSplits, keys: list[str]) -> LabelledSplits:
    """Take the keys; an image without one stands alone."""
    groups = tuple(
        key or f"alone: {source.name}"
        for key, source in zip(keys, splits.labelled.sources, strict=True)
    )
    return replace(splits, groups=groups, ungrouped=keys.count(""))
