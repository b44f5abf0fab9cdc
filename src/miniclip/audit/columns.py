"""Which subgroup each image belongs to: by a table, its folders, its tags, or its looks.

Tags of a person (name, number, birthday) are no columns here: only what a DICOM file says of the
machine and, in broad strokes, of the patient. It measures nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from miniclip.arrays import FloatArray, unit_rows
from miniclip.datasets.rows import Columns
from miniclip.datasets.tables import read_table
from miniclip.dicom import read_tags
from miniclip.embed import Skipped
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, read_header
from miniclip.index.metadata import read_metadata

UNKNOWN = "unknown"
DISCOVERED = "discovered"
MOST_VALUES = 50
_MOST_NUMBERS = 8  # different numbers that are still names, such as field strengths
_BINS = 4
# What may be told of a DICOM file: the machine and the view, sex and age. Never who it is.
DICOM_TAGS = (
    "BodyPartExamined", "ImageLaterality", "KVP", "MagneticFieldStrength", "Manufacturer",
    "ManufacturerModelName", "Modality", "PatientAge", "PatientSex", "PhotometricInterpretation",
    "SliceThickness", "ViewPosition",
)  # fmt: skip
KINDS = (
    "a column of the table, folder:1, exif:camera, exif:year, file:format, file:pixels, dicom:TAG"
)


def subgroups_of(
    column: str,
    names: Sequence[str],
    paths: Sequence[Path],
    *,
    table: Path | None = None,
    image_column: str | None = None,
) -> list[str]:
    """Return the value of a column for each of N images, "unknown" where it has none.

    column: "folder:K" for the K-th folder of the path below the data, "exif:camera", "exif:year",
    "file:format", "file:pixels", "dicom:TAG" with one of `DICOM_TAGS`; else the name of a column of
    `table`, whose paths are those of the data set or lead there from the folder of the table. More
    than 8 different numbers are cut into quarters of equal size. ConfigError for a column that does
    not exist, is empty, or has more than 50 values.
    """
    kind, _, detail = column.partition(":")
    if kind == "folder" and detail.isdecimal() and int(detail):
        cells = [_folder(name, int(detail)) for name in names]
    elif column in _OF_FILE:
        cells = [_OF_FILE[column](path) for path in paths]
    elif kind == "dicom" and detail in DICOM_TAGS:
        cells = [_dicom(path, detail) for path in paths]
    elif kind == "dicom":
        raise ConfigError(
            f"{column} may not name a subgroup; choose one of {', '.join(DICOM_TAGS)}"
        )
    elif table is not None:
        cells = _cells(column, names, paths, table, image_column)
    else:
        raise ConfigError(f"there is no table with a column {column!r}; give {KINDS}")
    return _named(column, [" ".join(cell.split()) for cell in cells])


def discover(features: FloatArray, clusters: int, *, seed: int) -> list[str]:
    """Cut N images into clusters of like looks: (N, F) -> names "cluster 1", ..., largest first.

    k-means on unit rows less their mean, blind to labels and answers, so a gap between clusters is
    tested as honestly as any other. ConfigError for too few images.
    """
    if not 2 <= clusters <= len(features) // 2:
        raise ConfigError(
            f"cannot cut {len(features)} images into {clusters} clusters; give at least 2, and "
            "images for each"
        )
    rows = unit_rows(unit_rows(features) - unit_rows(features).mean(axis=0))
    found = KMeans(clusters, n_init=4, random_state=seed).fit_predict(rows)
    rank = np.empty(clusters, dtype=np.int64)
    rank[np.argsort(-np.bincount(found, minlength=clusters), kind="stable")] = np.arange(clusters)
    return [f"cluster {number + 1}" for number in rank[found].tolist()]


def _folder(name: str, number: int) -> str:
    folders = name.split("/")[:-1]
    return folders[number - 1] if number <= len(folders) else ""


def _camera(path: Path) -> str:
    return read_metadata(ImageSource.of(path)).camera or ""


def _year(path: Path) -> str:
    return (read_metadata(ImageSource.of(path)).taken or "")[:4]


def _format(path: Path) -> str:
    try:
        return read_header(ImageSource.of(path)).file_format
    except ImageError:
        return ""


def _pixels(path: Path) -> str:
    try:
        header = read_header(ImageSource.of(path))
    except ImageError:
        return ""
    return str(header.width * header.height)


_OF_FILE: dict[str, Callable[[Path], str]] = {
    "exif:camera": _camera, "exif:year": _year, "file:format": _format, "file:pixels": _pixels,
}  # fmt: skip


def _dicom(path: Path, tag: str) -> str:
    try:
        value = str(read_tags(path).get(tag, ""))
    except ImageError:
        return ""
    # An age such as "064Y" is a number of years; of days, weeks and months it is the first year.
    if tag == "PatientAge" and value[:-1].isdecimal():
        return str(int(value[:-1])) if value[-1] == "Y" else "0"
    return value


def _cells(
    column: str, names: Sequence[str], paths: Sequence[Path], table: Path, image_column: str | None
) -> list[str]:
    by_name: dict[str, str] = {}
    by_place: dict[Path, str] = {}
    for row in read_table(table, Columns(image_column, column, (column,))):
        if not isinstance(row, Skipped):
            by_name.setdefault(os.path.normpath(row.image), row.caption)
            by_place.setdefault((table.parent / row.image).resolve(), row.caption)
    cells = [
        by_name.get(os.path.normpath(name), "") or by_place.get(path.resolve(), "")
        for name, path in zip(names, paths, strict=True)
    ]
    if not any(cells):
        raise ConfigError(
            f"{table} names none of the images, such as {names[0]}; its paths have to be those of "
            "the data set, or lead there from the folder of the table"
        )
    return cells


def _named(column: str, cells: list[str]) -> list[str]:
    values = sorted(set(filter(None, cells)))
    if not values:
        raise ConfigError(f"no image has a value of {column!r}; choose another column: {KINDS}")
    if len(values) > _MOST_NUMBERS and (numbers := _numbers(cells)) is not None:
        return _quarters(numbers)
    if len(values) > MOST_VALUES:
        raise ConfigError(
            f"{column!r} has {len(values)} different values, such as {values[0]!r}; a subgroup has "
            f"to be large enough to judge, so give a column of at most {MOST_VALUES}"
        )
    return [cell or UNKNOWN for cell in cells]


def _numbers(cells: list[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers[~np.isnan(numbers)]).all() else None


def _quarters(numbers: NDArray[np.float64]) -> list[str]:
    """Cut at the quartiles; equal numbers stay together."""
    known = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
    place = np.searchsorted(edges, numbers, side="left")
    texts = [f"{edge:g}" for edge in edges]
    names = [f"up to {texts[0]}"] + [
        f"above {low} up to {high}" for low, high in pairwise(texts)
    ] + [f"above {texts[-1]}"]  # fmt: skip
    return [
        UNKNOWN if np.isnan(number) else names[at]
        for number, at in zip(numbers.tolist(), place.tolist(), strict=True)
    ]
