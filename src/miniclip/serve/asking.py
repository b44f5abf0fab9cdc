"""What is searched for: words and examples together, as one vector. It asks no index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.errors import ConfigError
from miniclip.index.ask import By
from miniclip.index.query import Query, parse_query
from miniclip.index.relevance import CUT
from miniclip.serve.seeing import Upload


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for: words, images, and images of the index by id; any may be left out.

    min_confidence: None for the usual cut where words are asked for.
    """

    text: str = ""
    images: Sequence[Upload] = ()
    like: Sequence[int] = ()
    top: int = 12
    page: int = 1
    where: str | None = None
    by: By = "vectors"
    min_confidence: float | None = None
    near_duplicates: bool = False

    @property
    def cut(self) -> float:
        """The confidence below which an image is no hit; examples alone have none."""
        if self.min_confidence is not None:
            return self.min_confidence
        return CUT if self.text.strip() else 0.0

    @property
    def query(self) -> Query:
        """What is asked for, as `miniclip search` reads it; an example stands as a path of none.

        ConfigError when nothing is asked for.
        """
        examples = len(self.images) + len(self.like)
        return parse_query(self.text, [f"\0{number}" for number in range(examples)])


def examples_of(query: Query) -> list[Path]:
    """Return what stands for the examples, in order."""
    return [term.what for term in query.terms if isinstance(term.what, Path)]


def combined(query: Query, vectors: Mapping[str | Path, FloatArray]) -> FloatArray:
    """Return the weighted sum of the terms' vectors, (D,) of unit length, as `query_vector`."""
    weights = np.array([term.weight for term in query.terms], dtype=np.float32)
    total = weights @ np.stack([vectors[term.what] for term in query.terms])
    if np.linalg.norm(total) < 1e-3 * np.abs(weights).sum():
        raise ConfigError("the parts of the query cancel each other; change a weight")
    vector: FloatArray = unit_rows(total)
    return vector
