"""A map with all that belongs to it: the methods by name, and one call that draws and judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError
from miniclip.explain.credibility import MEASURES, RANDOM, Credibility, judge
from miniclip.explain.occlusion import both_map, patch_map
from miniclip.explain.rise import rise_map
from miniclip.explain.subject import Box, Check, Score, Subject, seen_box

CELLS = 14  # of each side of a map
DEFAULT = "both"
Method = Callable[[Subject, int], FloatArray]
METHODS: Mapping[str, Method] = {
    "both": lambda subject, _seed: both_map(subject, cells=CELLS),
    "occlusion": lambda subject, _seed: _enlarged(patch_map(subject, cells=CELLS // 2)),
    "rise": lambda subject, seed: rise_map(subject, cells=CELLS, seed=seed),
}
"""Name -> what draws a map (CELLS, CELLS) float32 of a subject with a seed."""


@dataclass(frozen=True)
class Explanation:
    """What drives a score of one picture.

    score: of the whole picture. drops: (G, G) float32, in units of the score; positive speaks for
    it. box: the part of the picture that the map lies over. asked: pictures shown to the model.
    """

    score: float
    method: str
    drops: FloatArray
    box: Box
    credibility: Credibility
    asked: int

    def __str__(self) -> str:
        worth = self.credibility
        lines = [f"map by {self.method}: {worth.verdict} (p = {worth.p:.2f})"]
        for name, measure in MEASURES.items():
            low, high = worth.chance(measure)
            own, middle = (getattr(one, measure) for one in (worth.map, worth.centre))
            lines.append(
                f"  {name:<9} {own:.3f}  middle {middle:.3f}  random {low:.3f} to {high:.3f}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the part of `miniclip explain --json` that every score has."""
        return {
            "score": self.score,
            "method": self.method,
            "map": self.drops.tolist(),
            "box": list(self.box),
            "credibility": self.credibility.to_dict(),
            "asked": self.asked,
        }


def explain(
    encoder: Encoder,
    image: Image.Image,
    score: Score,
    *,
    method: str = DEFAULT,
    random: int = RANDOM,
    seed: int = 0,
    check: Check = lambda: None,
) -> Explanation:
    """Draw the map of a score and judge it, by asking the encoder a few hundred times.

    image: RGB. random: how many random maps are tried to know chance. check: called before each
    batch that the encoder is asked about; what it raises ends the work. ConfigError for an unknown
    method.
    """
    draw = find_method(method)
    subject = Subject(encoder, image, score, check=check)
    drops = draw(subject, seed)
    credibility = judge(subject, drops, random=random, seed=seed)
    box = seen_box(image.size, encoder.image_spec)
    return Explanation(
        float(credibility.map.deletion[0]), method, drops, box, credibility, subject.asked
    )


def find_method(name: str) -> Method:
    """Return the method of a name; ConfigError when there is none."""
    if name not in METHODS:
        raise ConfigError(f"no method is called {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def _enlarged(drops: FloatArray) -> FloatArray:
    return np.kron(drops, np.ones((2, 2), dtype=np.float32))
