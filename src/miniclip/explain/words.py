"""Which words of a text carry its similarity to a picture: leave each one out and compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError


@dataclass(frozen=True)
class Word:
    """A word of a text. drop: the cosine of the text less that without the word; > 0 speaks for."""

    word: str
    drop: float

    def to_dict(self) -> dict[str, Any]:
        """Return one entry of `words` of `miniclip explain --json`."""
        return {"word": self.word, "drop": self.drop}


def word_drops(encoder: Encoder, text: str, image: FloatArray) -> tuple[Word, ...]:
    """Return what each word between spaces carries, in order.

    image: (D,) float32, unit length. The words of a text explain each other, so drops need not add
    up to anything; a word alone is held against no text at all. ConfigError for a text of none.
    """
    words = text.split()
    if not words:
        raise ConfigError(f"the text {text!r} has no words; give at least one")
    without = [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]
    cosines = encoder.encode_texts([" ".join(words), *without]) @ image
    drops = np.float64(cosines[0]) - cosines[1:]
    return tuple(Word(word, float(drop)) for word, drop in zip(words, drops, strict=True))
