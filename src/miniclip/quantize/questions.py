"""The user's own data as questions that a model answers rightly or wrongly, one by one.

Right and wrong per question, not a score: two models that answered the same questions can then be
compared in pairs, which tells apart much smaller differences than two intervals would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.datasets.captions import CaptionSet
from miniclip.datasets.folders import LabelledImages
from miniclip.embed import EmbeddedSet, Progress, embed_all
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.images import ImageSource
from miniclip.metrics import label_ranks, retrieval_ranks
from miniclip.probe.heads.head import Rows, fit_head
from miniclip.probe.splits import make_folds
from miniclip.prompts import DEFAULT_TEMPLATES, fill
from miniclip.zeroshot import class_vectors

_FOLDS = 5


class Answers(NamedTuple):
    """What a model answered.

    right: (M,) float64, 1 for a right answer and 0 for a wrong one. image: (M,) int64, the image
    that a question is about: questions about one image are not independent.
    """

    right: NDArray[np.float64]
    image: IntArray


class Questions(Protocol):
    """A data set to judge models by."""

    @property
    def metric(self) -> str:
        """What the share of right answers is called."""

    @property
    def sources(self) -> Sequence[ImageSource]:
        """The images."""

    @property
    def sentences(self) -> Sequence[str]:
        """The texts that a model meets; empty where it meets none."""

    def ask(self, encoder: Encoder, progress: Progress | None = None) -> Answers:
        """Let a model answer; progress counts images. DatasetError when no image is readable."""


@dataclass(frozen=True)
class RetrievalQuestions:
    """The image of each caption, and a caption of each image, among all of them."""

    captions: CaptionSet
    metric: str = "Recall@1, both ways"

    @property
    def sources(self) -> Sequence[ImageSource]:
        """The captioned images."""
        return [image.source for image in self.captions.images]

    @property
    def sentences(self) -> Sequence[str]:
        """The captions."""
        return self.captions.texts

    def ask(self, encoder: Encoder, progress: Progress | None = None) -> Answers:
        """M captions, then N images; right is the first place."""
        done = _embedded(encoder, self.sources, progress)
        captions_of = {image.source.name: image.captions for image in self.captions.images}
        texts = [caption for name in done.names for caption in captions_of[name]]
        owners = np.repeat(
            np.arange(len(done.names)), [len(captions_of[name]) for name in done.names]
        )
        ranks = retrieval_ranks(done.embeddings, encoder.encode_texts(texts), owners)
        right = np.concatenate([ranks.text_to_image == 0, ranks.image_to_text == 0])
        return Answers(
            right.astype(np.float64), np.concatenate([owners, np.arange(len(done.names))])
        )


@dataclass(frozen=True)
class ZeroShotQuestions:
    """The class of each image, by the names of the classes."""

    labelled: LabelledImages
    templates: Sequence[str] = DEFAULT_TEMPLATES
    metric: str = "zero-shot accuracy"

    @property
    def sources(self) -> Sequence[ImageSource]:
        """The labelled images."""
        return self.labelled.sources

    @cached_property
    def sentences(self) -> Sequence[str]:
        """The class names in all templates."""
        return [text for name in self.labelled.classes for text in fill(self.templates, name)]

    def ask(self, encoder: Encoder, progress: Progress | None = None) -> Answers:
        """N images; right is the likeliest class."""
        classes = class_vectors(encoder, self.labelled.classes, self.templates)
        done = _embedded(encoder, self.sources, progress)
        ranks = label_ranks(done.embeddings @ classes.T, _labels(self.labelled, done))
        return Answers((ranks == 0).astype(np.float64), np.arange(len(ranks)))


@dataclass(frozen=True)
class ProbeQuestions:
    """The class of each image, by logistic regression on features of the others."""

    labelled: LabelledImages
    sentences: Sequence[str] = ()
    metric: str = "probe accuracy"

    @property
    def sources(self) -> Sequence[ImageSource]:
        """The labelled images."""
        return self.labelled.sources

    def ask(self, encoder: Encoder, progress: Progress | None = None) -> Answers:
        """N images, each judged by a head that was fitted on the other four fifths."""
        done = _embedded(encoder, self.sources, progress)
        labels = _labels(self.labelled, done)
        classes = len(self.labelled.classes)
        fold_of = make_folds(labels, None, folds=_FOLDS, seed=0).fold_of
        right = np.empty(len(labels))
        for fold in np.unique(fold_of):
            held = fold_of == fold
            head = fit_head(
                "logistic",
                Rows(done.features[~held], done.embeddings[~held]),
                labels[~held],
                classes,
                parts=encoder.feature_parts,
            )
            scores = head.scores(Rows(done.features[held], done.embeddings[held]))
            right[held] = scores.argmax(axis=1) == labels[held]
        return Answers(right, np.arange(len(labels)))


def _embedded(
    encoder: Encoder, sources: Sequence[ImageSource], progress: Callable[[int], None] | None
) -> EmbeddedSet:
    done = embed_all(encoder, sources, progress=progress)
    if not done.names:
        first = f" (the first, {sources[0].name}: {done.skipped[0].reason})" if sources else ""
        raise DatasetError(f"none of the {len(sources)} images can be decoded{first}; check them")
    return done


def _labels(labelled: LabelledImages, done: EmbeddedSet) -> IntArray:
    label_of = {
        source.name: label for source, label in zip(labelled.sources, labelled.labels, strict=True)
    }
    return np.array([label_of[name] for name in done.names], dtype=np.int64)
