"""RISE: show random parts of a picture, and credit each place with the scores it was shown in.

Petsiuk, Das and Saenko 2018, arXiv 1806.07421, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.explain.subject import Subject

MASKS = 500
_COARSE = 7  # cells of a mask before it is enlarged
_SHOWN = 0.5  # how likely each of them is shown


def rise_map(subject: Subject, *, cells: int, masks: int = MASKS, seed: int = 0) -> FloatArray:
    """Return (cells, cells) float32: the mean score where a cell is shown, less the mean of all.

    That is equation 3 of the paper with the mean of M masks for the expectation, divided by how
    often a cell was shown and not by how often it should have been: what the score never falls
    below would otherwise add to the noise.
    """
    rng = np.random.default_rng(seed)
    shown = np.stack([random_mask(rng, cells) for _ in range(masks)])
    scores = subject.scores(shown, smooth=True)
    credited = np.tensordot(scores - scores.mean(), shown, axes=1)
    return np.asarray(credited / shown.sum(axis=0), dtype=np.float32)


def random_mask(rng: np.random.Generator, cells: int) -> FloatArray:
    """Return one mask (cells, cells) in 0..1: a coarse one, enlarged and moved by a part of a cell.

    Section 3.3 of the paper.
    """
    coarse = (rng.random((_COARSE + 1, _COARSE + 1)) < _SHOWN).astype(np.float32)
    step = math.ceil(cells / _COARSE)
    side = (_COARSE + 1) * step
    large = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR))
    top, left = rng.integers(side - cells + 1, size=2)
    return large[top : top + cells, left : left + cells]
