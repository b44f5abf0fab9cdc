"""Who is put to the test: a fitted classifier, a zero-shot one, or a model that finds captions.

A contestant says of each unit (an image, or for captions a text) whether it is right, how wrong it
is, and what it said, together with the figures of one condition. It embeds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.encoder import Encoder
from miniclip.evaluate.retrieval import score_retrieval
from miniclip.evaluate.robustness.conditions import Seen
from miniclip.metrics import retrieval_ranks
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.heads.head import Head
from miniclip.probe.intervals import Score, share
from miniclip.probe.rules import Judged, Rules, judge
from miniclip.probe.scores import score_classifier
from miniclip.views import PLAIN, View
from miniclip.zeroshot import probabilities

RECALL_AT = 5  # of the figure that stands for retrieval as a whole


@dataclass(frozen=True)
class Measured:
    """One contestant in one condition.

    correct: (M,) bool, one for each unit. wrongness: (M,) float64, how sure of a wrong answer, or
    how far down the right one stands; -1 where right. said: M answers in words. figures: by name.
    """

    correct: NDArray[np.bool_]
    wrongness: NDArray[np.float64]
    said: tuple[str, ...]
    figures: Mapping[str, Score]


class Contestant(Protocol):
    """A model on N images, in any condition."""

    @property
    def name(self) -> str:
        """For people; different for every contestant."""

    @property
    def encoder(self) -> Encoder:
        """Whose vectors it judges by."""

    @property
    def views(self) -> tuple[View, ...]:
        """The views that it needs."""

    def measure(self, seen: Seen) -> Measured:
        """Answer for all units, from what the encoder saw."""


@dataclass(frozen=True)
class Truth:
    """N labelled images. labels, group: (N,) int64; contents: sha256 of the files."""

    classes: tuple[str, ...]
    labels: IntArray
    group: IntArray
    contents: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """A head that has not learnt from certain images, and rules that were not fitted on them."""

    head: Head
    rules: Rules


@dataclass(frozen=True)
class Fitted:
    """A fitted classifier; image i is judged by judges[judge_of[i]]."""

    name: str
    encoder: Encoder
    views: tuple[View, ...]
    truth: Truth
    judges: tuple[Judge, ...] = field(repr=False)
    judge_of: IntArray = field(repr=False)

    def measure(self, seen: Seen) -> Measured:
        """Judge each image by the judge that does not know it."""
        truth, shape = self.truth, (len(self.truth.labels), len(self.truth.classes))
        judged = Judged(np.empty(shape), np.empty(shape, bool), np.empty(shape[0], bool))
        for number, one in enumerate(self.judges):
            own = np.flatnonzero(self.judge_of == number)
            if not len(own):
                continue
            scores = view_scores(one.head, seen, own)
            said = judge(one.rules, scores, [truth.contents[row] for row in own])
            judged.probabilities[own] = said.probabilities
            judged.label_sets[own] = said.label_sets
            judged.automatic[own] = said.automatic
        return _classified(truth, judged.probabilities, judged)


@dataclass(frozen=True)
class ZeroShot:
    """Class names alone; vectors: (C, D) float32 unit rows."""

    name: str
    encoder: Encoder
    truth: Truth
    vectors: FloatArray = field(repr=False)
    views: tuple[View, ...] = (PLAIN,)

    def measure(self, seen: Seen) -> Measured:
        """Choose the class whose vector is nearest."""
        said = probabilities(self.encoder, seen.embeddings, self.vectors)
        return _classified(self.truth, said.astype(np.float64), None)


@dataclass(frozen=True)
class Captions:
    """Sentences that look for their images; vectors: (M, D) float32 unit rows, owner: (M,) rows."""

    name: str
    encoder: Encoder
    vectors: FloatArray = field(repr=False)
    owner: IntArray = field(repr=False)
    views: tuple[View, ...] = (PLAIN,)

    def measure(self, seen: Seen) -> Measured:
        """Rank the images, corrupted, for each sentence, and the sentences for each image."""
        ranks = retrieval_ranks(seen.embeddings, self.vectors, self.owner)
        found = score_retrieval(seen.embeddings, self.vectors, self.owner, split="")
        figures = {
            f"{direction} {name}": Score(value, side.intervals[name])
            for direction, side in (
                ("text to image", found.text_to_image),
                ("image to text", found.image_to_text),
            )
            for name, value in side.scores.items()
            if name.startswith("recall")
        }
        correct = ranks.text_to_image < RECALL_AT
        return Measured(
            correct,
            np.where(correct, -1.0, ranks.text_to_image),
            tuple(f"rank {rank + 1}" for rank in ranks.text_to_image.tolist()),
            figures,
        )


def _classified(truth: Truth, shares: NDArray[np.float64], judged: Judged | None) -> Measured:
    """Score calibrated shares (N, C); judged: with sets and decisions, if there are any."""
    answers, labels = shares.argmax(axis=1), truth.labels
    correct = answers == labels
    found = score_classifier(shares, labels, truth.classes, truth.group)
    figures = {"accuracy": found.accuracy, "ece": found.ece}
    if judged:
        held = judged.label_sets[np.arange(len(labels)), labels]
        figures["coverage"] = share(held, truth.group)
        figures["automatic"] = share(judged.automatic, truth.group)
        if judged.automatic.any():
            wrong = ~correct[judged.automatic]
            figures["automatic error"] = share(wrong, truth.group[judged.automatic])
    return Measured(
        correct,
        np.where(correct, -1.0, shares.max(axis=1)),
        tuple(truth.classes[answer] for answer in answers.tolist()),
        figures,
    )


def headline(contestants: Sequence[Contestant]) -> str:
    """Return the figure that stands for all."""
    found = isinstance(contestants[0], Captions)
    return f"text to image recall@{RECALL_AT}" if found else "accuracy"
