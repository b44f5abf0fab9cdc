"""The tasks of a matrix: one model's vectors of one data set in, figures with intervals out.

Beside its figures a task keeps what came out item by item, so that models can be compared on the
same items later without running anything again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.datasets.captions import CaptionSet
from miniclip.datasets.judgements import JudgementSet
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.evaluate.judgements import PUBLISHED, VARIANTS, Variant, judge, tau
from miniclip.evaluate.matrix_config import MatrixConfig, Task
from miniclip.evaluate.matrix_data import MatrixData, Vectors, picture_groups, readable_captions
from miniclip.evaluate.probe_protocol import few_shot, few_shot_draws, make_parts, probe
from miniclip.evaluate.retrieval import score_ranks
from miniclip.evaluate.zeroshot import score_zeroshot
from miniclip.metrics import Interval, label_ranks, retrieval_ranks
from miniclip.probe.intervals import (
    Score,
    Weights,
    bootstrap,
    bounded,
    group_sums,
    number_groups,
    percentiles,
    share,
)
from miniclip.probe.table import FeatureTable
from miniclip.zeroshot import class_vectors


@dataclass(frozen=True)
class Hits:
    """How many answers about each group of images were right, of how many.

    items: hex digest of the groups' names, equal for models that were asked the same.
    """

    items: str
    right: tuple[int, ...]
    of: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """A model's score of each judged caption, beside the rating and the image's number."""

    items: str
    scores: tuple[float, ...]
    ratings: tuple[float, ...]
    image: tuple[int, ...]
    variant: Variant


Outcome = Hits | Scores


@dataclass(frozen=True)
class TaskResult:
    """figures: by name. outcomes: of the figures that models are compared by. facts: what else."""

    figures: Mapping[str, Score]
    outcomes: Mapping[str, Outcome]
    protocol: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


def run_task(
    task: Task, encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    """Run one task; MiniClipError when the data does not allow it."""
    return _TASKS[task](encoder, data, vectors, config)


def _retrieval(
    encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    assert isinstance(data.content, CaptionSet)
    captions = readable_captions(data.content, vectors)
    owners = captions.image_of_text
    texts = encoder.encode_texts(captions.texts)
    ranks = retrieval_ranks(vectors.table.embeddings, texts, owners)
    result = score_ranks(
        ranks, owners, split=data.entry.name, seed=config.seed, resamples=config.resamples
    )
    directions = {
        "text_to_image": (result.text_to_image, ranks.text_to_image, owners),
        "image_to_text": (result.image_to_text, ranks.image_to_text, np.arange(len(captions))),
    }
    names = [image.name for image in captions.images]
    return TaskResult(
        figures={
            f"{direction}_{score}": Score(value, found.intervals[score])
            for direction, (found, _, _) in directions.items()
            for score, value in found.scores.items()
        },
        outcomes={
            f"{direction}_recall@1": _hits(ranks == 0, images, names)
            for direction, (_, ranks, images) in directions.items()
        },
        protocol=result.protocol,
        skipped=captions.skipped,
    )


def _zeroshot(
    encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    images = _labelled(data, vectors)
    tested = np.flatnonzero(images.part == "test")
    rows = tested if len(tested) else np.arange(len(images.part))
    templates = config.zeroshot.templates
    cosines = images.table.embeddings[rows] @ class_vectors(encoder, images.classes, templates).T
    ranks = label_ranks(cosines, images.labels[rows])
    result = score_zeroshot(
        ranks,
        images.labels[rows],
        cosines.argmax(axis=1),
        images.classes,
        name=data.entry.name,
        templates=templates,
        seed=config.seed,
        resamples=config.resamples,
    )
    figures = {"top1": Score(result.top1, result.intervals["top1"])}
    if result.top5_k < len(images.classes):  # all guesses together are always right
        figures["top5"] = Score(result.top5, result.intervals["top5"])
    return TaskResult(
        figures=figures,
        outcomes={"top1": _hits(ranks == 0, images.group[rows], images.names(rows))},
        protocol=result.protocol,
        facts={"per_class": result.per_class},
        skipped=images.skipped,
    )


def _probe(
    _encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    images = _labelled(data, vectors)
    parts = make_parts(images.labels, images.part, images.group, seed=config.seed)
    fit = probe(images.table.pooled, images.labels, parts, config.probe.search)
    truth, group = images.labels[parts.test], images.group[parts.test]
    right = fit.predicted == truth
    learnt = np.concatenate([parts.train, parts.val])
    return TaskResult(
        figures={
            "accuracy": share(right, group, seed=config.seed, resamples=config.resamples),
            "mean_per_class": _mean_per_class(right, truth, group, config),
        },
        outcomes={"accuracy": _hits(right, group, images.names(parts.test))},
        protocol=(
            f"linear probe of Radford et al. 2021, appendix A.3: {len(parts.train):,} images to "
            f"learn from, {len(parts.val):,} to choose C, {len(parts.test):,} to judge; "
            f"{data.entry.name}, {len(images.classes)} classes; 95 % intervals over pictures"
        ),
        facts={
            "c": fit.c,
            "converged": fit.converged,
            "validation": {f"{c:.6g}": value for c, value in fit.validation.items()},
            "test_images_seen_in_training": int(np.isin(group, images.group[learnt]).sum()),
        },
        skipped=images.skipped,
    )


def _fewshot(
    _encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    images, settings = _labelled(data, vectors), config.fewshot
    parts = make_parts(images.labels, images.part, images.group, seed=config.seed)
    pool, test = np.concatenate([parts.train, parts.val]), parts.test
    truth, group, names = images.labels[test], images.group[test], images.names(test)
    figures: dict[str, Score] = {}
    outcomes: dict[str, Outcome] = {}
    draws: dict[str, list[float]] = {}
    left_out: list[Skipped] = []
    for shots in settings.shots:
        try:
            drawn = list(
                few_shot_draws(
                    images.labels,
                    images.group,
                    pool,
                    shots=shots,
                    draws=settings.draws,
                    seed=config.seed,
                )
            )
        except DatasetError as error:
            left_out.append(Skipped(f"{shots} shots", str(error)))
            continue
        right = np.array(
            [
                few_shot(images.table.pooled, images.labels, test, one, settings.search) == truth
                for one in drawn
            ]
        )
        name = f"accuracy@{shots}"
        figures[name] = _mean_of_draws(right, group, config)
        outcomes[name] = _hits(right.sum(axis=0), group, names, each=len(right))
        draws[name] = right.mean(axis=1).tolist()
    if not figures:
        raise DatasetError(left_out[0].reason)
    return TaskResult(
        figures=figures,
        outcomes=outcomes,
        protocol=(
            f"few-shot linear probe, mean of {settings.draws} draws; C chosen on min(shots, 4) "
            f"more images a class (Zhou et al. 2022); {len(test):,} images to judge, "
            f"{data.entry.name}, {len(images.classes)} classes; 95 % intervals over draws and "
            "pictures"
        ),
        facts={"draws": draws},
        skipped=(*images.skipped, *left_out),
    )


def _judgements(
    encoder: Encoder, data: MatrixData, vectors: Vectors, config: MatrixConfig
) -> TaskResult:
    assert isinstance(data.content, JudgementSet)
    content = data.content
    rows = dict(zip(vectors.row.tolist(), vectors.table.embeddings, strict=True))
    judged = judge(encoder, content, rows, prefix=config.judgements.prefix)
    scores = {"clipscore": judged.clipscore}
    if judged.refclipscore is not None:
        scores["refclipscore"] = judged.refclipscore
    published = PUBLISHED[content.judges]
    return TaskResult(
        figures={
            f"{name}_tau_{variant}": tau(
                values,
                judged.ratings,
                judged.image,
                variant,
                seed=config.seed,
                resamples=config.resamples,
            )
            for name, values in scores.items()
            for variant in VARIANTS
        },
        outcomes={
            f"{name}_tau_{published}": Scores(
                items=_digest([judged.ratings.tolist(), judged.image.tolist()]),
                scores=tuple(values.tolist()),
                ratings=tuple(judged.ratings.tolist()),
                image=tuple(judged.image.tolist()),
                variant=published,
            )
            for name, values in scores.items()
        },
        protocol=(
            f"{len(judged.ratings):,} judgements ({content.judges}) of captions of "
            f"{len(np.unique(judged.image)):,} images, {data.entry.name}, as in Hessel et al. "
            f"2021, which publishes tau-{published}; {judged.left_out} captions of the very image "
            "left out; 95 % intervals over images"
        ),
        facts={"left_out": judged.left_out},
        skipped=(*content.skipped, *vectors.table.skipped),
    )


_TASKS: dict[Task, Callable[[Encoder, MatrixData, Vectors, MatrixConfig], TaskResult]] = {
    "retrieval": _retrieval,
    "zeroshot": _zeroshot,
    "probe": _probe,
    "fewshot": _fewshot,
    "judgements": _judgements,
}


@dataclass(frozen=True)
class _Labelled:
    """The N readable images of a labelled data set."""

    table: FeatureTable
    classes: tuple[str, ...]
    labels: IntArray
    part: NDArray[np.str_]
    group: IntArray
    skipped: tuple[Skipped, ...]

    def names(self, rows: IntArray) -> list[str]:
        return [self.table.names[row] for row in rows.tolist()]


def _labelled(data: MatrixData, vectors: Vectors) -> _Labelled:
    assert isinstance(data.content, LabelledSplits)
    splits = data.content.rows(vectors.row)
    return _Labelled(
        table=vectors.table,
        classes=splits.labelled.classes,
        labels=splits.labelled.labels,
        part=splits.part,
        group=picture_groups(vectors.table, splits.groups),
        skipped=(*splits.labelled.skipped, *vectors.table.skipped),
    )


def _hits(right: NDArray[Any], group: IntArray, names: Sequence[str], *, each: int = 1) -> Hits:
    """Add up right answers by group; each: how many answers one item stands for."""
    number, _ = number_groups(group, len(right))
    totals = group_sums(
        np.stack([right.astype(np.int64), np.full(len(right), each)], axis=1), number
    )
    return Hits(
        items=_digest([list(names), number.tolist()]),
        right=tuple(totals[:, 0].tolist()),
        of=tuple(totals[:, 1].tolist()),
    )


def _mean_per_class(
    right: NDArray[np.bool_], truth: IntArray, group: IntArray, config: MatrixConfig
) -> Score:
    """Mean over classes of the share of their images that came out right."""
    _, label = np.unique(truth, return_inverse=True)
    own = np.eye(int(label.max()) + 1)[label]
    number, groups = number_groups(group, len(right))
    sums = group_sums(np.concatenate([own * right[:, None], own], axis=1), number)
    classes = own.shape[1]

    def mean(weights: Weights) -> dict[str, NDArray[Any]]:
        drawn = weights.T @ sums
        hits, images = drawn[:, :classes], drawn[:, classes:]
        # A class that a resample misses is left out of its mean.
        by_class = np.divide(hits, images, out=np.full_like(hits, np.nan), where=images > 0)
        return {"mean": np.nanmean(by_class, axis=1)}

    drawn = bootstrap(mean, groups, seed=config.seed, resamples=config.resamples)["mean"]
    value = float(mean(np.ones((groups, 1)))["mean"][0])
    return bounded(value, drawn, groups)


def _mean_of_draws(right: NDArray[np.bool_], group: IntArray, config: MatrixConfig) -> Score:
    """Mean of right (S, M) over draws and images; both are drawn anew (Owen 2007, pigeonhole)."""
    number, groups = number_groups(group, right.shape[1])
    sums = group_sums(right.T.astype(np.float64), number)
    sizes = group_sums(np.ones((right.shape[1], 1)), number)
    rng = np.random.default_rng(config.seed)

    def mean(weights: Weights) -> dict[str, NDArray[Any]]:
        by_draw = (weights.T @ sums) / (weights.T @ sizes)
        again = rng.integers(len(right), size=by_draw.shape)
        return {"mean": np.take_along_axis(by_draw, again, axis=1).mean(axis=1)}

    drawn = bootstrap(mean, groups, seed=config.seed, resamples=config.resamples)["mean"]
    value = float(right.mean())
    low, high = percentiles(drawn)
    return Score(value, Interval(min(low, value), max(high, value)))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
