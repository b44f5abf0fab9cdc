"""What rows a classifier would have for words that are no class of it: a guess by regression.

From what the pretrained text tower says of a name to the row of that class is nearly a linear way,
and on it lie all the words between the classes: no class is called "plastic", but many bottles and
bags are near it. Fine-tuning on captions forgets that way unless the guesses are taught along.
Drawing and teaching is done by `class_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from torch import Tensor

from miniclip.arrays import FloatArray, unit_rows

TextFeatures = Callable[[Sequence[str]], FloatArray]  # M texts to (M, F')
RIDGE = 3.0  # between 1 and 10 what is guessed hardly changes
_IN_CAPTIONS, _IN_DESCRIPTIONS = 10, 3  # a word counts that stands in so many of them


class Wording(NamedTuple):
    """How one class can be told: the name that tells it apart, other names, a description."""

    name: str
    synonyms: tuple[str, ...] = ()
    description: str = ""


class Prompts(NamedTuple):
    """How a name becomes a vector before anything is trained."""

    text_features: TextFeatures
    templates: Sequence[str]

    def of(self, names: Sequence[str]) -> FloatArray:
        """Return the unit mean over templates of unit features, (len(names), F')."""
        prompts = [template.replace("{}", name) for name in names for template in self.templates]
        features = unit_rows(self.text_features(prompts))
        return unit_rows(features.reshape(len(names), len(self.templates), -1).mean(axis=1))


def vocabulary(captions: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    """Return the words of three letters and more that are used often enough, in order."""
    found: set[str] = set()
    for texts, least in ((captions, _IN_CAPTIONS), (descriptions, _IN_DESCRIPTIONS)):
        if len(texts) < least:
            continue
        counter = CountVectorizer(stop_words="english", token_pattern="[a-z]{3,}", min_df=least)
        try:
            found.update(counter.fit(texts).get_feature_names_out())
        except ValueError:  # its word for: no word is left
            continue
    return sorted(found)


def guess_rows(
    rows: Tensor, wordings: Sequence[Wording], words: Sequence[str], prompts: Prompts
) -> Tensor:
    """Return rows (V, F) for V words, as far from the mean row as those of the classes are.

    rows: (C, F); wordings: C.
    """
    mean = rows.mean(dim=0)
    centred = (rows - mean).numpy()
    known = prompts.of([wording.name for wording in wordings])
    told = [place for place, wording in enumerate(wordings) if wording.description]
    if told:
        descriptions = [wordings[place].description for place in told]
        known = np.concatenate([known, unit_rows(prompts.text_features(descriptions))])
    regression = Ridge(alpha=RIDGE).fit(known, np.concatenate([centred, centred[told]]))
    guessed = unit_rows(regression.predict(prompts.of(words)))
    length = float(np.median(np.linalg.norm(centred, axis=1)))
    return mean + length * torch.from_numpy(guessed)
