"""Which new images a model has learnt from: byte copies and near-repeats of its training images.

What it says of these says nothing about new ones. Found as `miniclip fit` finds repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.probe.duplicates import RepeatPair, find_known
from miniclip.probe.model import Reference
from miniclip.probe.prepare import Prepared
from miniclip.probe.results import to_json

UNSEARCHED = "near-repeats were not looked for: the model keeps no hashes, fit it again"


@dataclass(frozen=True)
class TrainingRepeats:
    """Which of N new images repeat training images.

    repeated: (N,) bool. pairs: (training image, new image) of each that does so itself; the others
    are of one group with such a one. searched: whether near-repeats were looked for; models of
    before perceptual hashes were kept know none.
    """

    repeated: NDArray[np.bool_] = field(repr=False)
    pairs: tuple[RepeatPair, ...] = field(repr=False)
    searched: bool

    @property
    def count(self) -> int:
        """How many images are repeats, or belong with one."""
        return int(self.repeated.sum())

    @property
    def left(self) -> int:
        """How many others there are."""
        return len(self.repeated) - self.count

    @property
    def judging(self) -> NDArray[np.bool_]:
        """(N,) bool: the images that say how good the model is; all where no others are left."""
        return ~self.repeated if self.left else np.ones_like(self.repeated)

    @property
    def verdict(self) -> str:
        """All of it in words."""
        images, exact = len(self.repeated), sum(pair.exact for pair in self.pairs)
        if not self.count:
            kind = "repeats" if self.searched else "is a byte copy of"
            said = f"none of the {images:,} images {kind} a training image"
        else:
            kinds = [f"{exact:,} byte copies"]
            if self.searched:
                kinds.append(f"{len(self.pairs) - exact:,} near-repeats")
            if joined := self.count - len(self.pairs):
                kinds.append(f"{joined:,} that belong with one of these")
            said = (
                f"{self.count:,} of {images:,} images are repeats of training images "
                f"({', '.join(kinds)}): "
            ) + (
                f"the figures are of the {self.left:,} others"
                if self.left
                else "no other is left, so the figures are of repeats and say nothing of new images"
            )
        if self.searched:
            return said
        return f"{said}; {UNSEARCHED}"

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        exact = sum(pair.exact for pair in self.pairs)
        return {
            "images": self.count,
            "exact": exact,
            "near": len(self.pairs) - exact if self.searched else None,
            "left": self.left,
            "verdict": self.verdict,
            "pairs": to_json(self.pairs),
        }


def training_repeats(prepared: Prepared, reference: Reference) -> TrainingRepeats:
    """Look for N prepared images, whole groups of them, among what a model has learnt from."""
    found = find_known(prepared.table, reference.pictures)
    own = np.flatnonzero(found >= 0)
    names, contents = prepared.table.names, prepared.table.contents
    return TrainingRepeats(
        repeated=np.isin(prepared.group, prepared.group[own]),
        pairs=tuple(
            RepeatPair(
                reference.names[row], names[place], contents[place] == reference.contents[row]
            )
            for place, row in zip(own.tolist(), found[own].tolist(), strict=True)
        ),
        searched=reference.hashes is not None,
    )
