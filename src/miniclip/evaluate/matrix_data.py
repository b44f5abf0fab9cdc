"""The data sets of a matrix: read once, told apart by what they hold, embedded for each bundle.

A fingerprint covers file contents, captions, labels and parts, so it needs no model and does not
change when a folder moves. Vectors go through the cache. Nothing is scored here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.captions import CaptionSet, read_captions
from miniclip.datasets.judgements import JudgementSet, read_judgements
from miniclip.datasets.labelled_splits import LabelledSplits, read_labelled_splits
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.evaluate.matrix_config import DataEntry
from miniclip.images import ImageSource
from miniclip.index.contents import read_contents
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.duplicates import near_hashes
from miniclip.probe.groups import join_groups, join_pairs
from miniclip.probe.table import LOOK_UP, FeatureTable, read_table

Content = CaptionSet | LabelledSplits | JudgementSet
_SAME_PICTURE_BITS = 4  # of 64; few enough that hashes alone, without a model, can be believed


@dataclass(frozen=True)
class MatrixData:
    """A data set that was read. sources: its images. fingerprint: hex sha256 of all it holds."""

    entry: DataEntry
    content: Content
    sources: tuple[ImageSource, ...]
    fingerprint: str

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The rows that were left out while reading."""
        if isinstance(self.content, LabelledSplits):
            return self.content.labelled.skipped
        return self.content.skipped


@dataclass(frozen=True)
class Vectors:
    """What one model sees in one data set.

    table: the readable images; row: (N,) int64, the number of each among the sources.
    """

    table: FeatureTable
    row: IntArray


def open_data(entry: DataEntry, folder: Path, cache: VectorCache) -> MatrixData:
    """Read a data set; paths are relative to `folder`. MiniClipError when it cannot be used."""
    content = _read(entry, folder)
    if isinstance(content, CaptionSet):
        sources = tuple(image.source for image in content.images)
        facts: list[Any] = [[image.name, *image.captions] for image in content.images]
    elif isinstance(content, LabelledSplits):
        labelled, sources = content.labelled, content.labelled.sources
        facts = [
            [source.name, labelled.classes[label], part, group]
            for source, label, part, group in zip(
                sources,
                labelled.labels.tolist(),
                content.part.tolist(),
                content.groups or [None] * len(sources),
                strict=True,
            )
        ]
    else:
        sources = content.sources
        facts = [[one.image, one.caption, one.ratings, one.own] for one in content.judgements]
        facts.append(content.references)
    digests = [
        found and found.digest.hex()
        for start in range(0, len(sources), LOOK_UP)
        for found in read_contents(sources[start : start + LOOK_UP], cache)
    ]
    told = json.dumps([entry.kind, digests, facts])
    return MatrixData(entry, content, sources, hashlib.sha256(told.encode()).hexdigest())


def embed_data(
    encoder: Encoder, data: MatrixData, cache: VectorCache, progress: Progress | None = None
) -> Vectors:
    """Embed a data set, from the cache where it holds the vectors; DatasetError if none is left."""
    table = read_table(encoder, data.sources, cache, progress=progress)
    if not len(table):
        first = table.skipped[0]
        raise DatasetError(
            f"none of the {len(data.sources)} images of {data.entry.name} can be read; the first, "
            f"{first.name}: {first.reason}"
        )
    row_of = {source.name: row for row, source in enumerate(data.sources)}
    return Vectors(table, np.array([row_of[name] for name in table.names], dtype=np.int64))


def readable_captions(captions: CaptionSet, vectors: Vectors) -> CaptionSet:
    """Return the captioned images that have vectors, in their order."""
    images = tuple(captions.images[row] for row in vectors.row.tolist())
    return replace(captions, images=images, skipped=(*captions.skipped, *vectors.table.skipped))


def picture_groups(table: FeatureTable, given: Sequence[str] | None) -> IntArray:
    """Group images that are one picture, or that the data set says belong together: (N,) int64.

    One picture: equal bytes, or perceptual hashes (of the picture or its mirror image) that differ
    in at most 4 of 64 bits. No model is asked, so that all are judged on the same groups; `miniclip
    fit` asks its model too and finds more.
    """
    hashes = np.array([facts.perceptual_hash for facts in table.facts], dtype=np.uint64)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    pairs += [found[bits <= _SAME_PICTURE_BITS] for found, bits in near_hashes(hashes)]
    alike = join_pairs(np.concatenate(pairs), len(table))
    return join_groups(alike, table.contents, given)


def _read(entry: DataEntry, folder: Path) -> Content:
    if entry.labelled is not None:
        return _read_labelled(entry, folder / entry.labelled, folder)
    assert entry.captions is not None  # DataEntry sees to it
    captions = folder / entry.captions
    images = folder / entry.images if entry.images is not None else None
    if entry.judgements is not None:
        return read_judgements(folder / entry.judgements, captions, images)
    return read_captions(
        captions,
        images,
        folder / entry.split if entry.split is not None else None,
        format=entry.format,
        image_column=entry.image_column,
        caption_column=entry.caption_column,
    )


def _read_labelled(entry: DataEntry, data: Path, folder: Path) -> LabelledSplits:
    return read_labelled_splits(
        data,
        folder / entry.labels if entry.labels is not None else None,
        group_regex=entry.group_regex,
        group_column=entry.group_column,
        split_column=entry.split_column,
        label_column=entry.label_column,
        image_column=entry.image_column,
    )
