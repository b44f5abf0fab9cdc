"""Labelled images: a folder per class, or a table with the columns path and label. It opens none.

What a class is called in prompts may differ from the name of its folder: a mapping file says so,
such as `n01440764<TAB>tench` for ImageNet.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.rows import Columns, line_name, unreadable
from miniclip.datasets.tables import read_table
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.images import ImageSource
from miniclip.index.scan import find_images
from miniclip.textfile import read_lines

# How people call the parts of a split data set.
PART_OF_NAME = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_SEPARATORS = ("\t", "=", ":")  # between folder and name; comma and space occur in names too


@dataclass(frozen=True)
class LabelledImages:
    """Images with one class each.

    sources: N images. labels: (N,) int64 in [0, C). classes: C names as prompts use them, in the
    order of their folders' names. skipped: rows left out of a table.
    """

    name: str
    sources: tuple[ImageSource, ...]
    labels: IntArray
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)


def read_labelled(
    data: Path,
    labels: Path | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> LabelledImages:
    """Read a folder of class folders, or a CSV or TSV file with a path and a label column.

    labels: a mapping file from folder (or label) to display name, one `folder<TAB>name`,
    `folder=name`, `folder: name` or `folder,name` a line; it has to name every class there is, and
    may name more. Or a plain list of as many names as there are classes, in the order of the
    folders' names (numbers count as numbers), or of these names themselves in any order. '#' starts
    a comment line. Without it underscores become spaces, unless two classes were then
    called alike. Classes of one name are one class.
    Paths in a table are relative to its folder; image_column, label_column: for a table whose
    columns have unusual names. Raises DatasetError when nothing usable is found, ConfigError when
    `labels` cannot be read.
    """
    if os.path.isdir(data):
        return _read_folders(data, labels)
    if os.path.isfile(data):
        columns = Columns(image_column, label_column, ("label", "class", "category"))
        return _read_table(data, labels, columns)
    raise DatasetError(f"there is no folder or table {data}; check the path")


def _read_folders(root: Path, labels: Path | None) -> LabelledImages:
    """Class folders in order of name; images at any depth below; hidden ones ignored."""
    skipped: list[Skipped] = []
    found = {
        folder.name: list(
            find_images(
                [folder], on_unreadable=lambda path, why: skipped.append(Skipped(str(path), why))
            )
        )
        for folder in _class_folders(root)
    }
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise DatasetError(
            f"no images in {len(empty)} of {len(found)} class folders of {root}: "
            f"{', '.join(empty[:5])}; add images or remove the folder"
        )
    classes, class_of = class_names(list(found), labels)
    return LabelledImages(
        name=root.resolve().name,
        sources=tuple(
            ImageSource(name=path.relative_to(root).as_posix(), path=path)
            for images in found.values()
            for path in images
        ),
        labels=np.repeat(class_of, [len(images) for images in found.values()]),
        classes=classes,
        skipped=tuple(skipped),
    )


def _class_folders(root: Path) -> list[Path]:
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise unreadable(root, error) from error
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    if not folders:
        raise DatasetError(
            f"{root} has no class folders; put the images of each class into a folder of its own"
        )
    if all(folder.name.lower() in PART_OF_NAME for folder in folders):
        raise DatasetError(
            f"the folders of {root} are called {', '.join(folder.name for folder in folders)}, "
            f"which are splits and no classes; give one of them, such as {folders[0]}"
        )
    return folders


def _read_table(table: Path, labels: Path | None, columns: Columns) -> LabelledImages:
    skipped: list[Skipped] = []
    said: dict[str, dict[str, str]] = {}  # image -> label -> where
    for row in read_table(table, columns):
        label = "" if isinstance(row, Skipped) else row.caption.strip()
        if isinstance(row, Skipped):
            skipped.append(row)
        elif not row.image or not label:
            skipped.append(Skipped(row.where, "no path or no label"))
        elif label in said.setdefault(row.image, {}):
            skipped.append(Skipped(row.where, f"{row.image} is listed before; counted once"))
        else:
            said[row.image][label] = row.where
    label_of: dict[str, str] = {}
    for image, labels_of in said.items():
        if len(labels_of) > 1:
            rows = ", ".join(f"{label} ({where})" for label, where in labels_of.items())
            skipped.append(Skipped(image, f"the same file stands under two labels: {rows}"))
        elif not os.path.isfile(table.parent / image):
            skipped.append(Skipped(image, f"no such image file in {table.parent}"))
        else:
            label_of[image] = next(iter(labels_of))
    if not label_of:
        first = f", first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise DatasetError(
            f"nothing usable in {table} ({len(skipped)} rows skipped{first}); "
            "paths are relative to the folder of the table"
        )
    keys = sorted({label for labels_of in said.values() for label in labels_of})
    classes, class_of = class_names(keys, labels)
    number_of = dict(zip(keys, class_of.tolist(), strict=True))
    return LabelledImages(
        name=table.stem,
        sources=tuple(ImageSource(name=name, path=table.parent / name) for name in label_of),
        labels=np.array([number_of[key] for key in label_of.values()], dtype=np.int64),
        classes=classes,
        skipped=tuple(skipped),
    )


def class_names(keys: list[str], labels: Path | None) -> tuple[tuple[str, ...], IntArray]:
    """Return C different names for prompts, and for each folder or label the number of its.

    keys: folders or labels, sorted. labels: as for `read_labelled`, whose errors these are.
    """
    names = _read_names(labels, keys) if labels else _plain_names(keys)
    number_of: dict[str, int] = {}
    numbers = [number_of.setdefault(names[key], len(number_of)) for key in keys]
    return tuple(number_of), np.array(numbers, dtype=np.int64)


def _plain_names(keys: list[str]) -> dict[str, str]:
    """With spaces for underscores, but for keys that would then be called alike."""
    spaced = Counter(key.replace("_", " ") for key in keys)
    return {key: name if spaced[name := key.replace("_", " ")] == 1 else key for key in keys}


def _read_names(labels: Path, keys: list[str]) -> Mapping[str, str]:
    """Display names of the given folders; lines about other folders are passed over."""
    names: dict[str, str] = {}
    known = set(keys)
    plain: list[str] = []
    for number, text in read_lines(labels, "labels", comments=True):
        key, name = _pair(text, known)
        if not key:
            plain.append(text)
        elif names.setdefault(key, name) != name:
            raise DatasetError(
                f"{line_name(labels, number)}: {key!r} is called {names[key]!r} and {name!r}; "
                "keep one of the two lines"
            )
    names = _own_names(plain, keys) | names if names else _from_list(plain, keys)
    if missing := sorted(known - names.keys()):
        raise DatasetError(
            f"{labels} names {len(names)} of {len(known)} classes; missing: "
            f"{', '.join(missing[:5])}; add a line `{missing[0]}=name` for each"
        )
    return names


def _pair(text: str, known: set[str]) -> tuple[str, str]:
    """Split a line after a known folder; ("", "") when it is none of that kind."""
    for separator in (*_SEPARATORS, ",", " "):
        key, _, name = text.partition(separator)
        key, name = key.strip(' "'), name.strip(' ",')
        # "glass bottle" is a name, "n01440764 tench" a code and a name.
        if key in known and name and (separator != " " or any(map(str.isdigit, key))):
            return key, name
    return "", ""


def _own_names(plain: list[str], keys: list[str]) -> dict[str, str]:
    """Folders that the lines call by the folder's own name, give or take case and underscores."""
    spelled = {key.replace("_", " ").casefold(): key for key in keys}
    return {
        spelled[spelling]: name
        for name in plain
        if (spelling := name.replace("_", " ").casefold()) in spelled
    }


def _from_list(plain: list[str], keys: list[str]) -> dict[str, str]:
    """Names in the order of the folders, unless the folders' own names stand in another order."""
    own = _own_names(plain, keys)
    is_list = not any(separator in name for name in plain for separator in _SEPARATORS)
    ordered = dict(zip(_in_order(keys), plain, strict=False)) if is_list else {}
    fits = len(plain) == len(keys) and all(ordered.get(key) == own[key] for key in own)
    return ordered if fits else own


def _in_order(keys: list[str]) -> list[str]:
    """By number where all are numbers, else by name."""
    return sorted(keys, key=int) if all(key.isdecimal() for key in keys) else sorted(keys)
