"""A look at retrieval itself: some sentences with the images they find, and the other way round.

Half of the questions shown were answered rightly at once and half were not, so that both kinds are
seen; how many of each there are, the recall says. Nothing is drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.evaluate.retrieval import EmbeddedCaptions

QUERIES, TOP = 12, 5


@dataclass(frozen=True)
class Answer:
    """number: of an image or a text of the captions; cosine: -1 to 1; right: a hit."""

    number: int
    cosine: float
    right: bool


@dataclass(frozen=True)
class Question:
    """number: of a text or an image; answers: best first; rank: 1-based, of the first right one."""

    number: int
    rank: int
    answers: tuple[Answer, ...]

    @property
    def hit(self) -> bool:
        """Whether the first answer is right."""
        return self.rank == 1


@dataclass(frozen=True)
class RetrievalSheet:
    """sentences: texts that look for images; images: images that look for texts."""

    sentences: tuple[Question, ...]
    images: tuple[Question, ...]


def retrieval_sheet(
    embedded: EmbeddedCaptions, *, queries: int = QUERIES, top: int = TOP, seed: int = 0
) -> RetrievalSheet:
    """Draw at most `queries` of each kind, half hits and half misses where there are enough."""
    owners, ranks = embedded.captions.image_of_text, embedded.ranks()
    rng = np.random.default_rng(seed)
    everyone = np.arange(len(embedded.captions))
    return RetrievalSheet(
        sentences=tuple(
            _question(
                embedded.image @ embedded.text[number],
                everyone == owners[number],
                number,
                rank,
                top,
            )
            for number, rank in _drawn(rng, ranks.text_to_image, queries)
        ),
        images=tuple(
            _question(embedded.text @ embedded.image[number], owners == number, number, rank, top)
            for number, rank in _drawn(rng, ranks.image_to_text, queries)
        ),
    )


def _drawn(rng: np.random.Generator, ranks: IntArray, queries: int) -> list[tuple[int, int]]:
    """Draw numbers with their 0-based ranks, hits first."""
    order = rng.permutation(len(ranks))
    hits, misses = order[ranks[order] == 0], order[ranks[order] > 0]
    shown = min(len(misses), max(queries // 2, queries - len(hits)))
    chosen = np.concatenate([hits[: queries - shown], misses[:shown]])
    return [(number, int(ranks[number])) for number in chosen.tolist()]


def _question(
    cosines: FloatArray, right: NDArray[np.bool_], number: int, rank: int, top: int
) -> Question:
    # Among equals the wrong answer first: ties count against the model here as in the figures.
    best = np.lexsort((right, -cosines))[:top].tolist()
    answers = tuple(Answer(one, float(cosines[one]), bool(right[one])) for one in best)
    return Question(number, rank + 1, answers)
