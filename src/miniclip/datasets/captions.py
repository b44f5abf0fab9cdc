"""Captioned images in memory: which image, which captions, and what was left out and why.

Text only: an image is a source to be opened later, so a set of a million captions is some hundred
MiB. `formats.py`, `tables.py` and `shards.py` read files into rows; here rows become images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.formats import detect_format, format_named
from miniclip.datasets.rows import Columns, Row, text_lines
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.images import ImageSource
from miniclip.textfile import Line


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions: at least one, stripped, with single spaces."""

    name: str
    source: ImageSource
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet:
    """Captioned images in the order of the split, or of first appearance.

    name: for people, such as "Flickr_8k.devImages". skipped: the rows and images left out, each
    with its reason. format: the format that was read.
    """

    name: str
    images: tuple[CaptionedImage, ...]
    skipped: tuple[Skipped, ...] = ()
    format: str = "memory"

    @property
    def texts(self) -> tuple[str, ...]:
        """All captions, image by image: M of them."""
        return tuple(caption for image in self.images for caption in image.captions)

    @property
    def image_of_text(self) -> IntArray:
        """(M,) int64 in [0, N): the image of each of `texts`."""
        counts = [len(image.captions) for image in self.images]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    def __len__(self) -> int:
        return len(self.images)


def read_captions(
    captions: Path,
    images: Path | None = None,
    split: Path | None = None,
    *,
    format: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> CaptionSet:
    """Read captioned images; the format is seen by content unless `format` forces it.

    captions: a Flickr8k token file, a CSV or TSV with a header, COCO JSON, JSON lines, Parquet, or
    WebDataset shards (a tar, a folder of tars, or a pattern such as "train-{000..009}.tar").
    images: the folder that image names are relative to; None means the folder of `captions`.
    split: a text file with one image name per line, which chooses the images and their order.
    image_column, caption_column: for tables and JSON, where the names are not the usual ones.

    Bad rows and images without a file are skipped by name. Raises DatasetError when the file cannot
    be read as a whole or nothing is left of it, ConfigError for an unknown format.
    """
    columns = Columns(image_column, caption_column)
    chosen = format_named(format) if format else detect_format(captions, columns)
    skipped: list[Skipped] = []
    gathered = _gather(chosen.read(captions, columns), skipped)
    wanted = _read_split(split, skipped) if split else list(gathered)
    folder = images if images is not None else captions.parent
    kept = []
    for name in wanted:
        found = gathered.get(name)
        if found is None:
            skipped.append(Skipped(name, f"in {split}, but without a caption in {captions.name}"))
        elif not (found.source or os.path.isfile(folder / name)):
            skipped.append(Skipped(name, f"no such image file in {folder}"))
        else:
            source = found.source or ImageSource(name=name, path=folder / name)
            kept.append(CaptionedImage(name, source, tuple(found.captions)))
    if not kept:
        raise _nothing_left(captions, folder, split, skipped)
    name = (split or captions).stem
    return CaptionSet(name, tuple(kept), tuple(skipped), chosen.name)


@dataclass
class _Gathered:
    source: ImageSource | None
    captions: list[str]


def _gather(rows: Iterable[Row | Skipped], skipped: list[Skipped]) -> dict[str, _Gathered]:
    """Put the captions of each image together, in order of first appearance."""
    gathered: dict[str, _Gathered] = {}
    for row in rows:
        if isinstance(row, Skipped):
            skipped.append(row)
        elif not row.image:
            skipped.append(Skipped(row.where, "no image name"))
        elif not (caption := " ".join(row.caption.split())):
            skipped.append(Skipped(row.where, f"empty caption for {row.image}"))
        else:
            gathered.setdefault(row.image, _Gathered(row.source, [])).captions.append(caption)
    return gathered


def _read_split(split: Path, skipped: list[Skipped]) -> list[str]:
    """Read image names, one per line, each once."""
    names: dict[str, None] = {}
    for line in text_lines(split):
        if not isinstance(line, Line):
            skipped.append(line)
        elif (name := line.text.strip()) in names:
            skipped.append(Skipped(name, f"listed twice in {split.name}; counted once"))
        else:
            names[name] = None
    return list(names)


def _nothing_left(
    captions: Path, folder: Path, split: Path | None, skipped: list[Skipped]
) -> DatasetError:
    reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in skipped[:3])
    return DatasetError(
        f"nothing usable in {captions}"
        + (f" for the split {split}" if split else "")
        + (f" ({len(skipped)} skipped, first: {reasons})" if skipped else " (it has no rows)")
        + f"; check that the image names in it are files below {folder}"
        + (" and are spelled as in the split" if split else "")
    )
