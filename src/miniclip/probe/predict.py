"""What a fitted classifier says of images: label, probability, set, decision, and the evidence.

It takes feature tables, a batch or a whole data set, and keeps nothing between them; reading the
images is the business of table.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniclip.embed import Skipped, Stream, embed_stream
from miniclip.encoder import Encoder
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.cross_fit import view_scores
from miniclip.probe.model import ClassifierModel
from miniclip.probe.neighbours import Neighbours
from miniclip.probe.results import Neighbour
from miniclip.probe.rules import Judged, judge
from miniclip.probe.table import FeatureTable, read_table

DecisionName = Literal["auto", "review", "out-of-scope"]
DECISIONS: tuple[DecisionName, ...] = ("auto", "review", "out-of-scope")
NEAREST = 3
BATCH_IMAGES = 512  # features of so many are in memory at a time


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    labels: all C labels with their calibrated probabilities, the likeliest first. label_set: the
    conformal set, likeliest first; it may be empty. decision: "auto", the label needs no person;
    "review", a person should look; "out-of-scope", no image of the kind that was learnt, whatever
    the probabilities say. nearest: the training images that look most alike.
    """

    name: str
    labels: tuple[tuple[str, float], ...]
    label_set: tuple[str, ...]
    decision: DecisionName
    reason: str
    nearest: tuple[Neighbour, ...]

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[0][0]

    @property
    def probability(self) -> float:
        """Its calibrated probability."""
        return self.labels[0][1]

    def to_dict(self) -> dict[str, Any]:
        """Return one entry of `images` of `miniclip predict --json`."""
        return {
            "path": self.name,
            "labels": [{"label": label, "probability": share} for label, share in self.labels],
            "set": list(self.label_set),
            "decision": self.decision,
            "reason": self.reason,
            "nearest": [
                {"path": neighbour.name, "cosine": neighbour.cosine} for neighbour in self.nearest
            ],
        }


class Predictor:
    """A model made ready to predict."""

    def __init__(self, model: ClassifierModel, nearest: int = NEAREST) -> None:
        self.model = model
        self._nearest = nearest

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.model.reference.features)

    def judge(self, table: FeatureTable) -> Judged:
        """Return probabilities, sets and who decides, whatever the gate says."""
        return judge(self.model.rules, view_scores(self.model.head, table), table.contents)

    def predict(self, table: FeatureTable) -> tuple[Prediction, ...]:
        """Predict the N images of a table that was read with the model's encoder and views."""
        if not len(table):
            return ()
        judged = self.judge(table)
        distances = self.model.gate.distance(table.pooled)
        refused = self.model.gate.refuses(table.pooled)
        rows, cosines = self._neighbours.nearest(table.pooled, self._nearest)
        predictions = []
        for image, name in enumerate(table.names):
            labels = self._ranked(judged.probabilities[image])
            automatic, foreign = bool(judged.automatic[image]), bool(refused[image])
            predictions.append(
                Prediction(
                    name=name,
                    labels=labels,
                    label_set=tuple(
                        label
                        for label, _ in labels
                        if judged.label_sets[image, self.model.classes.index(label)]
                    ),
                    decision="out-of-scope" if foreign else "auto" if automatic else "review",
                    reason=self._reason(labels[0][1], automatic, foreign, float(distances[image])),
                    nearest=tuple(
                        Neighbour(self.model.reference.names[row], float(cosine))
                        for row, cosine in zip(rows[image], cosines[image], strict=True)
                    ),
                )
            )
        return tuple(predictions)

    def _ranked(self, probabilities: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-probabilities, kind="stable")
        return tuple((self.model.classes[label], float(probabilities[label])) for label in order)

    def _reason(self, share: float, automatic: bool, foreign: bool, distance: float) -> str:
        limit, threshold = self.model.gate.threshold, self.model.rules.threshold
        if foreign:
            return f"unlike the training images: distance {distance:.3g}, limit {limit:.3g}"
        if automatic:
            return f"sure enough: {share:.1%}, {threshold:.1%} is needed"
        if threshold > 1:
            return "no threshold keeps the error that was asked for, so a person decides"
        return f"not sure enough: {share:.1%}, {threshold:.1%} is needed"


def predict_stream(
    predictor: Predictor,
    encoder: Encoder,
    sources: Iterable[ImageSource],
    cache: VectorCache,
    *,
    batch_images: int = BATCH_IMAGES,
    stream: Stream = embed_stream,
) -> Iterator[Prediction | Skipped]:
    """Predict any number of images, a batch at a time, in order; unreadable ones come as Skipped.

    Features go through the cache, so a second run over the same files takes seconds. stream:
    what runs the encoder. BundleError when the encoder is not the one of the fit.
    """
    predictor.model.check_encoder(encoder.name, encoder.fingerprint)
    return _predictions(
        predictor, encoder, sources, cache, batch_images=batch_images, stream=stream
    )


def _predictions(
    predictor: Predictor,
    encoder: Encoder,
    sources: Iterable[ImageSource],
    cache: VectorCache,
    *,
    batch_images: int,
    stream: Stream,
) -> Iterator[Prediction | Skipped]:
    coming = iter(sources)
    while batch := list(islice(coming, batch_images)):
        table = read_table(encoder, batch, cache, views=predictor.model.views, stream=stream)
        said: dict[str, Prediction | Skipped] = {one.name: one for one in table.skipped}
        said |= {one.name: one for one in predictor.predict(table)}
        yield from (said[source.name] for source in batch)
