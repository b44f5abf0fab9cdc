"""How often the right label name wins with no training on these classes, with intervals.

Ranks are taken among the names of the data set's own classes. Ties count against the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from miniclip.arrays import FloatArray, IntArray
from miniclip.datasets.folders import LabelledImages
from miniclip.embed import Progress, Skipped, embed_stream
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.metrics import (
    Interval,
    bootstrap_interval,
    label_ranks,
    per_class_accuracy,
    recall_at,
)
from miniclip.prompts import DEFAULT_TEMPLATES
from miniclip.zeroshot import class_vectors

_CONFUSIONS_KEPT = 20


class Confusion(NamedTuple):
    """How many images of `label` were called `predicted`."""

    label: str
    predicted: str
    images: int


@dataclass(frozen=True)
class ZeroShotResult:
    """Fractions from 0 to 1. `intervals` are 95 %, percentile bootstrap over images.

    top5: with `top5_k` = min(5, C) guesses, so 1.0 when there are no more than five classes.
    per_class: top-1 by class; None where no image of a class could be decoded. confusions: the most
    frequent mistakes, most frequent first.
    """

    top1: float
    top5: float
    top5_k: int
    per_class: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    n: int
    templates: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    protocol: str
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints, but for the name of the model."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "top5_k": self.top5_k,
            "per_class": dict(self.per_class),
            "interval": {name: list(interval) for name, interval in self.intervals.items()},
            "n": self.n,
            "templates": list(self.templates),
            "confusions": [confusion._asdict() for confusion in self.confusions],
            "protocol": self.protocol,
            "skipped": [entry.to_dict() for entry in self.skipped],
        }

    def __str__(self) -> str:
        width = max(len(label) for label in self.per_class)
        lines = [self.protocol]
        for title, name, score in (
            ("top-1", "top1", self.top1),
            (f"top-{self.top5_k}", "top5", self.top5),
        ):
            low, high = self.intervals[name]
            lines.append(f"{title:<{width}} {score:7.1%} [{low:.1%}, {high:.1%}]")
        for label, accuracy in self.per_class.items():
            lines.append(
                f"{label:<{width}} {'no image' if accuracy is None else f'{accuracy:7.1%}'}"
            )
        return "\n".join(lines)


def evaluate_zeroshot(
    encoder: Encoder,
    labelled: LabelledImages,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    *,
    seed: int = 0,
    resamples: int = 1000,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ZeroShotResult:
    """Classify labelled images by the names of their classes; undecodable images are skipped.

    Memory does not grow with the vectors: only a rank per image is kept. Raises DatasetError when
    no image can be decoded, ConfigError for unusable templates.
    """
    names = labelled.classes
    classes = class_vectors(encoder, names, templates)
    label_of = {
        source.name: label for source, label in zip(labelled.sources, labelled.labels, strict=True)
    }
    undecodable: list[Skipped] = []
    judged: list[IntArray] = []  # (B, 3) each: class, rank, best guess
    for result in embed_stream(
        encoder, labelled.sources, batch_size=batch_size, threads=threads, progress=progress
    ):
        if isinstance(result, Skipped):
            undecodable.append(result)
            continue
        cosines: FloatArray = result.embeddings @ classes.T
        truth = np.array([label_of[source.name] for source in result.sources], dtype=np.int64)
        ranks = label_ranks(cosines, truth)
        judged.append(np.stack([truth, ranks, cosines.argmax(axis=1)], axis=1))
    if not judged:
        first = f" (first: {undecodable[0].name}: {undecodable[0].reason})" if undecodable else ""
        raise DatasetError(
            f"none of the {len(labelled)} images of {labelled.name} can be decoded{first}; "
            "check the files"
        )
    labels, ranks, guesses = np.concatenate(judged).T
    return score_zeroshot(
        ranks,
        labels,
        guesses,
        names,
        name=labelled.name,
        templates=templates,
        skipped=(*labelled.skipped, *undecodable),
        seed=seed,
        resamples=resamples,
    )


def score_zeroshot(
    ranks: IntArray,
    labels: IntArray,
    guesses: IntArray,
    names: tuple[str, ...],
    *,
    name: str,
    templates: Sequence[str],
    skipped: tuple[Skipped, ...] = (),
    seed: int = 0,
    resamples: int = 1000,
) -> ZeroShotResult:
    """Score answers that are there already.

    ranks: (N,) of `label_ranks`; labels, guesses: (N,) int64 in [0, C); names: of the C classes.
    """
    k = min(5, len(names))
    accuracies = per_class_accuracy(ranks, labels, len(names)).tolist()
    return ZeroShotResult(
        top1=recall_at(ranks, 1),
        top5=recall_at(ranks, k),
        top5_k=k,
        per_class={
            label: None if math.isnan(accuracy) else accuracy
            for label, accuracy in zip(names, accuracies, strict=True)
        },
        intervals={
            score: bootstrap_interval(ranks < within, seed=seed, resamples=resamples)
            for score, within in (("top1", 1), ("top5", k))
        },
        n=len(ranks),
        templates=tuple(templates),
        confusions=_confusions(names, labels, guesses),
        protocol=(
            f"{len(ranks):,} images, {len(names):,} classes, {name}, "
            f"{len(templates)} templates, no training on these classes; 95 % bootstrap intervals "
            f"over images, {resamples:,} resamples"
        ),
        skipped=skipped,
    )


def _confusions(
    names: tuple[str, ...], labels: IntArray, guesses: IntArray
) -> tuple[Confusion, ...]:
    wrong = labels != guesses
    pairs = Counter(zip(labels[wrong].tolist(), guesses[wrong].tolist(), strict=True))
    return tuple(
        Confusion(names[label], names[guess], images)
        for (label, guess), images in pairs.most_common(_CONFUSIONS_KEPT)
    )
