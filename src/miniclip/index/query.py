"""What a person asks for: sentences and example images, with weights and minus, to one vector.

    beach -people             one sentence, without people
    "dog on grass":2 "snow"   two sentences, the first counting twice
    a dog on the grass:0.5    a weight for the whole sentence

A minus or plus before a word, or before a phrase in double quotes, makes that word or phrase a
term of its own; words without a sign are one sentence together, in their order. A weight `:N`
stands after a phrase, at the end of it, or at the end of the sentence. It searches nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError
from miniclip.index.search import image_query

MAX_WEIGHT = 100.0
_SPACE = r"(?:(?<=\s)|^)"  # a sign counts only at the start of a word: not in t-shirt
_WEIGHT = r"(\d+(?:\.\d+)?)"
_TERM = re.compile(
    rf'{_SPACE}(?P<sign>[+-]?)"(?P<phrase>[^"]+)"(?::{_WEIGHT}(?=\s|$))?'
    rf"|{_SPACE}(?P<signed>[+-])(?P<word>[^\W_][^\s]*)"
)
# Not after a digit: "at 12:30" and "16:9" are words.
_TAIL = re.compile(rf"^(?P<words>.*[^\d\s:])\s*:{_WEIGHT}$", re.DOTALL)


@dataclass(frozen=True)
class Term:
    """A sentence or an image file, and how much it counts: below 0 what is not wanted."""

    what: str | Path
    weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """All that is asked for at once; at least one term has a weight above 0."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.terms):
            unwanted = ", ".join(str(term.what) for term in self.terms)
            raise ConfigError(
                f"the query only says what is not wanted ({unwanted}); add what to look for"
                if self.terms
                else "the query is empty; say what to look for"
            )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The sentences with a weight above 0."""
        return tuple(
            term.what for term in self.terms if isinstance(term.what, str) and term.weight > 0
        )

    def __str__(self) -> str:
        return " ".join(_shown(term, alone=len(self.terms) == 1) for term in self.terms)


def parse_query(text: str = "", images: Sequence[str | Path] = ()) -> Query:
    """Read what a person typed (see the head of this file) and image files, each perhaps FILE:2.

    A file whose name begins with a minus that is not part of an existing name is not wanted:
    -FILE. ConfigError when nothing is asked for, or a weight is 0 or above 100.
    """
    return Query((*_sentence_terms(text), *(_image_term(str(image)) for image in images)))


def query_vector(encoder: Encoder, query: Query) -> FloatArray:
    """Return the weighted sum of the terms' unit vectors, (D,) float32, of unit length.

    ImageError for an image that cannot be read; ConfigError when the terms cancel each other.
    """
    sentences = [term for term in query.terms if isinstance(term.what, str)]
    images = [term for term in query.terms if isinstance(term.what, Path)]
    texts = encoder.encode_texts([str(term.what) for term in sentences])
    rows = [*texts, *(image_query(encoder, Path(term.what)) for term in images)]
    weights = np.array([term.weight for term in (*sentences, *images)], dtype=np.float32)
    total = weights @ np.stack(rows)
    if np.linalg.norm(total) < 1e-3 * np.abs(weights).sum():
        raise ConfigError(f"the parts of the query {query} cancel each other; change a weight")
    vector: FloatArray = unit_rows(total)
    return vector


def wanted_vector(encoder: Encoder, query: Query) -> FloatArray | None:
    """Return the vector of the sentences that are wanted alone, (D,), or None if there is none."""
    if not query.wanted:
        return None
    kept = [term for term in query.terms if isinstance(term.what, str) and term.weight > 0]
    return query_vector(encoder, Query(tuple(kept)))


def _sentence_terms(text: str) -> list[Term]:
    terms = []
    for match in _TERM.finditer(text):
        sign = -1.0 if "-" in (match["sign"] or match["signed"] or "") else 1.0
        if match["phrase"] is not None:
            words, weight = _weighted(match["phrase"])
            outer = match[3]
            terms.append(_term(words, sign, float(outer) if outer else weight))
        else:
            terms.append(_term(*_signed(match["word"], sign)))
    plain = " ".join(_TERM.sub(" ", text).split())
    if plain:
        words, weight = _weighted(plain)
        terms.insert(0, _term(words, 1.0, weight))
    return terms


def _signed(word: str, sign: float) -> tuple[str, float, float]:
    words, weight = _weighted(word)
    return words, sign, weight


def _weighted(text: str) -> tuple[str, float]:
    tail = _TAIL.match(text.strip())
    return (tail["words"].strip(), float(tail[2])) if tail else (text.strip(), 1.0)


def _term(words: str | Path, sign: float, weight: float) -> Term:
    if not 0 < weight <= MAX_WEIGHT:
        raise ConfigError(
            f"the weight of {str(words)!r} is {weight:g}; give one above 0 and up to "
            f"{MAX_WEIGHT:g}, and a minus before what is not wanted"
        )
    return Term(words, sign * weight)


def _image_term(text: str) -> Term:
    if os.path.lexists(text):
        return Term(Path(text))
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    tail = None if os.path.lexists(rest) else re.match(rf"^(.+):{_WEIGHT}$", rest, re.DOTALL)
    path, weight = (tail[1], float(tail[2])) if tail else (rest, 1.0)
    return _term(Path(path), sign, weight)


def _shown(term: Term, *, alone: bool) -> str:
    name = term.what.name if isinstance(term.what, Path) else term.what
    if alone and term.weight == 1:
        return name
    sign = "-" if term.weight < 0 else ""
    weight = "" if abs(term.weight) == 1 else f":{abs(term.weight):g}"
    return f'{sign}"{name}"{weight}'
