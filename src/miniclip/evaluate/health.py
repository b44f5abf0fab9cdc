"""The health of a shared space: whether both sides meet, and how much of it is used, how evenly.

The formulas are in space.py; here they get their intervals and become one result. It draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.embed import Skipped
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.evaluate.retrieval import EmbeddedCaptions
from miniclip.evaluate.space import (
    cosine_counts,
    effective_rank,
    nearest,
    skewness,
    uniformity_kernel,
)
from miniclip.metrics import Interval
from miniclip.probe.intervals import RESAMPLES, Score, Weights, bootstrap, percentiles
from miniclip.probe.results import to_json

NEIGHBOURS = 10
MOST_PAIRED = 4000  # images whose pairs are looked at for uniformity, drawn by the seed
HUBS = 5
_BINS = 80
_LEFT_OUT_GROUPS = 20
_95_PERCENT = 1.959964


@dataclass(frozen=True)
class Histogram:
    """edges: B + 1 cosines from low to high; matched, unmatched: how many pairs are in each bin."""

    edges: tuple[float, ...]
    matched: tuple[int, ...]
    unmatched: tuple[int, ...]


@dataclass(frozen=True)
class Hub:
    """An image that many texts find. times: in how many lists of the K nearest it stands."""

    name: str
    times: int


@dataclass(frozen=True)
class HealthResult:
    """What a space looks like on N images and M texts.

    figures: by name, each with its 95 % interval; see `space` for what they are. temperature:
    1 / logit scale; logit_bias: of the model. dimensions: D, the most that an effective rank can
    be; neighbours: K of hubness. hubs: the images that most texts find.
    """

    figures: Mapping[str, Score]
    temperature: float
    logit_bias: float
    dimensions: int
    neighbours: int
    histogram: Histogram = field(repr=False)
    hubs: tuple[Hub, ...]
    protocol: str
    skipped: tuple[Skipped, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip evaluate health --json` prints, but for the model's name."""
        return {
            **{name: score.value for name, score in self.figures.items()},
            "interval": {name: to_json(score.interval) for name, score in self.figures.items()},
            "temperature": self.temperature,
            "logit_bias": self.logit_bias,
            "dimensions": self.dimensions,
            "neighbours": self.neighbours,
            "histogram": to_json(self.histogram),
            "hubs": to_json(self.hubs),
            "protocol": self.protocol,
            "skipped": to_json(self.skipped),
        }

    def __str__(self) -> str:
        lines = [self.protocol]
        for name, score in self.figures.items():
            low, high = score.interval
            lines.append(f"{name:<22}{score.value:>9.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"{'temperature':<22}{self.temperature:>9.3f}")
        return "\n".join(lines)


def evaluate_health(
    encoder: Encoder,
    embedded: EmbeddedCaptions,
    *,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> HealthResult:
    """Measure a space on captioned images; DatasetError for fewer than two readable images.

    Intervals draw images, whose captions follow. A bootstrap repeats images, which no effective
    rank and no list of neighbours survives, so these two have a jackknife of 20 groups of images.
    """
    captions, image, text = embedded.captions, embedded.image, embedded.text
    if len(image) < 2:
        raise DatasetError(
            f"{captions.name} has only {len(image)} readable image; give at least two"
        )
    owners, own = captions.image_of_text, np.arange(len(image))
    images_found = nearest(text, image, min(neighbours, len(image)))
    texts_found = nearest(image, text, min(neighbours, len(text)))
    times = np.bincount(images_found.ravel(), minlength=len(image))

    def hubness(found: IntArray, items: int) -> Callable[[IntArray], float]:
        return lambda rows: skewness(np.bincount(found[rows].ravel(), minlength=items))

    def left_out(figure: Callable[[IntArray], float], images: IntArray) -> Score:
        return _jackknifed(figure, images, seed)

    first = np.flatnonzero(np.diff(owners, prepend=-1))
    figures = {
        **_of_means(image, text, owners, seed, resamples),
        "uniformity_images": _uniformity(image, seed, resamples),
        "uniformity_texts": _uniformity(text[first], seed, resamples),
        "effective_rank_images": left_out(lambda rows: effective_rank(image[rows]), own),
        "effective_rank_texts": left_out(lambda rows: effective_rank(text[rows]), owners),
        "hubness_images": left_out(hubness(images_found, len(image)), owners),
        "hubness_texts": left_out(hubness(texts_found, len(text)), own),
    }
    return HealthResult(
        figures=figures,
        temperature=1.0 / encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        dimensions=image.shape[1],
        neighbours=neighbours,
        histogram=_histogram(image, text, owners),
        hubs=tuple(
            Hub(captions.images[one].name, int(times[one]))
            for one in np.argsort(-times, kind="stable")[:HUBS].tolist()
        ),
        protocol=(
            f"{len(image):,} images, {len(text):,} texts, {captions.name}, {image.shape[1]} "
            f"dimensions, hubness of the {neighbours} nearest; 95 % intervals over images"
        ),
        skipped=captions.skipped,
    )


def _of_means(
    image: FloatArray, text: FloatArray, owners: IntArray, seed: int, resamples: int
) -> dict[str, Score]:
    """Figures that are means over images, texts or pairs, all from the same resamples."""
    images = image.astype(np.float64)
    texts = np.zeros_like(images)  # of each image, the sum of its texts
    np.add.at(texts, owners, text)
    counts = np.bincount(owners, minlength=len(image)).astype(np.float64)
    cosines = np.einsum("nd,nd->n", images, texts)
    squares = np.bincount(owners, weights=np.square(text - image[owners]).sum(axis=1))

    def figures(weights: Weights) -> dict[str, NDArray[Any]]:
        drawn = weights.astype(np.float64)
        image_sums, text_sums = drawn.T @ images, drawn.T @ texts
        n, m = drawn.sum(axis=0), drawn.T @ counts
        # An image drawn twice is still matched with its own texts, both times.
        twice = np.square(drawn)
        others = n * m - twice.T @ counts
        unmatched = (image_sums * text_sums).sum(axis=1) - twice.T @ cosines
        return {
            "modality_gap": np.linalg.norm(
                image_sums / n[:, None] - text_sums / m[:, None], axis=1
            ),
            "alignment": (drawn.T @ squares) / m,
            "matched_cosine": (drawn.T @ cosines) / m,
            "unmatched_cosine": _divided(unmatched, others),
        }

    return _bootstrapped(figures, len(image), seed, resamples)


def _uniformity(rows: FloatArray, seed: int, resamples: int) -> Score:
    """Uniformity of at most `MOST_PAIRED` of the rows."""
    if len(rows) > MOST_PAIRED:
        rows = rows[np.random.default_rng(seed).permutation(len(rows))[:MOST_PAIRED]]
    kernel = uniformity_kernel(rows)

    def figures(weights: Weights) -> dict[str, NDArray[Any]]:
        drawn = weights.astype(np.float32)
        pairs = len(rows) ** 2 - np.square(drawn).sum(axis=0)
        return {"uniformity": np.log(_divided((kernel @ drawn * drawn).sum(axis=0), pairs))}

    return _bootstrapped(figures, len(rows), seed, resamples)["uniformity"]


def _bootstrapped(
    figures: Callable[[Weights], dict[str, NDArray[Any]]], images: int, seed: int, resamples: int
) -> dict[str, Score]:
    """Compute figures of all images, each drawn once, and their percentile intervals."""
    values = figures(np.ones((images, 1)))
    drawn = bootstrap(figures, images, seed=seed, resamples=resamples)
    found = {}
    for name, (value,) in values.items():
        finite = drawn[name][np.isfinite(drawn[name])]
        low, high = percentiles(finite if len(finite) else np.array([value]))
        found[name] = Score(float(value), Interval(min(low, float(value)), max(high, float(value))))
    return found


def _jackknifed(figure: Callable[[IntArray], float], images: IntArray, seed: int) -> Score:
    """Compute a figure of rows, and its interval by leaving out a group of images at a time.

    figure: takes row numbers. images: the image of each row. The grouped jackknife of Tukey (Efron
    and Tibshirani 1993, chapter 11), normal interval.
    """
    count = int(images.max()) + 1
    groups = min(_LEFT_OUT_GROUPS, count)
    group = np.random.default_rng(seed).permutation(count) % groups
    value = figure(np.arange(len(images)))
    without = np.array([figure(np.flatnonzero(group[images] != one)) for one in range(groups)])
    spread = np.square(without - without.mean()).sum() * (groups - 1) / groups
    margin = _95_PERCENT * float(np.sqrt(spread))
    return Score(value, Interval(value - margin, value + margin), "jackknife")


def _histogram(image: FloatArray, text: FloatArray, owners: IntArray) -> Histogram:
    edges = np.linspace(-1 - 1e-6, 1 + 1e-6, _BINS + 1)
    matched, unmatched = cosine_counts(image, text, owners, edges)
    return Histogram(
        tuple(np.round(edges, 4).tolist()), tuple(matched.tolist()), tuple(unmatched.tolist())
    )


def _divided(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, with NaN where there is nothing: a resample may hold one image only."""
    empty = np.full(total.shape, np.nan)
    means: NDArray[np.float64] = np.divide(total, count, out=empty, where=count > 0)
    return means
