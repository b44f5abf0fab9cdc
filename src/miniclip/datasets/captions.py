"""Captioned images in memory: which image, which captions, and what was left out and why.

Text only: an image is a source to be opened later, so a set of a million captions is some hundred
MiB. The readers are in `formats.py` and `shards.py`; `read.py` chooses among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from miniclip.arrays import IntArray
from miniclip.embed import Skipped
from miniclip.images import ImageSource


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions, at least one, stripped and with single spaces."""

    name: str
    source: ImageSource
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet:
    """Captioned images in the order of the split, or of first appearance.

    name: for people, such as "Flickr_8k.devImages". format: the format that was read. skipped: the
    rows and images left out, each with its reason.
    """

    name: str
    images: tuple[CaptionedImage, ...]
    skipped: tuple[Skipped, ...] = ()
    format: str = field(default="memory")

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
