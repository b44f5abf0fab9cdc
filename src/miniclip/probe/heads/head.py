"""What a head is, how one is fitted and how one is read back. The kinds live in files of their own.

A head turns frozen features into logits. It chooses its own hyper-parameters on inner validation
folds of the rows it is given; how good it is, and its calibration, are measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError, DatasetError, StoreError

Scores = NDArray[np.float64]
Settings = dict[str, Any]  # what JSON can hold
Arrays = Mapping[str, NDArray[Any]]

FITTED_KINDS = ("kernel", "logistic", "svm", "prototype", "knn", "zeroshot", "blend")
KINDS = (*FITTED_KINDS, "linear", "mlp")  # the last two come out of training with gradients


class Rows(NamedTuple):
    """The same N images in two spaces.

    features: (N, F) float32, before the projection. embeddings: (N, D) float32 unit rows, in the
    space of the prompts.
    """

    features: FloatArray
    embeddings: FloatArray

    def take(self, index: NDArray[Any]) -> Rows:
        """Return the rows at `index`, (M,) integers or (N,) booleans."""
        return Rows(self.features[index], self.embeddings[index])


class Head(Protocol):
    """A fitted classifier of C classes."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""

    @property
    def settings(self) -> Settings:
        """Hyper-parameters as chosen, for JSON; with `arrays` all that `load_head` needs."""

    def scores(self, rows: Rows) -> Scores:
        """Return (N, C) float64 logits, not calibrated; a row's largest is the predicted class."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what an npz file holds, no objects among them."""


@dataclass(frozen=True)
class HeadSettings:
    """What a user may fix beforehand; None is chosen on inner validation folds.

    inner_folds: how many, at least 2. c: inverse strength of the penalty (kernel, logistic, svm),
    above 0. gamma: rate of the Gaussian kernel (kernel, svm), in units of 1 / mean squared distance
    between training rows, above 0. neighbours: K (knn), from 1.
    """

    inner_folds: int = 5
    c: float | None = None
    gamma: float | None = None
    neighbours: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no head can use."""
        for name, value, least in (
            ("inner_folds", self.inner_folds, 2),
            ("neighbours", self.neighbours, 1),
        ):
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}; give a whole number from {least} up")
        for name, real in (("c", self.c), ("gamma", self.gamma)):
            if real is not None and not 0 < real < np.inf:
                raise ConfigError(f"{name} is {real}; give a number above 0")


@dataclass(frozen=True)
class Training:
    """What a head is fitted on.

    labels: (N,) int64 in [0, C). groups: (N,) int64; rows of one group are the same picture and
    never stand on both sides of an inner fold. parts: as `Encoder.feature_parts`. prompts: (C, D)
    float32 unit rows, or None.
    """

    rows: Rows
    labels: IntArray
    classes: int
    groups: IntArray
    parts: tuple[int, ...] = ()
    prompts: FloatArray | None = None
    logit_scale: float = 1.0
    settings: HeadSettings = field(default_factory=HeadSettings)
    seed: int = 0


def fit_head(
    kind: str,
    rows: Rows,
    labels: IntArray,
    classes: int,
    *,
    settings: HeadSettings | None = None,
    prompts: FloatArray | None = None,
    logit_scale: float = 1.0,
    seed: int = 0,
    groups: IntArray | None = None,
    parts: tuple[int, ...] = (),
) -> Head:
    """Fit one of `FITTED_KINDS`.

    labels: (N,) integers in [0, classes). prompts: (C, D) float32 unit rows, which `zeroshot` and
    `blend` need; logit_scale: the encoder's factor from cosine to logit. groups: (N,) integers,
    equal for pictures that must stay together (copies, views); None: each row by itself. parts: how
    many features come from each layer, as `Encoder.feature_parts`; empty for all from one. Equal
    arguments give equal heads, bit by bit, on one machine.

    Raises ConfigError for an unknown kind or missing prompts, DatasetError for rows that cannot
    be learned from.
    """
    if kind not in FITTED_KINDS:
        raise ConfigError(f"no head is called {kind!r}; choose one of {', '.join(FITTED_KINDS)}")
    training = Training(
        rows=rows,
        labels=np.asarray(labels, dtype=np.int64),
        classes=int(classes),
        groups=np.arange(len(labels)) if groups is None else np.asarray(groups, dtype=np.int64),
        parts=tuple(parts) or (rows.features.shape[1],),
        prompts=prompts,
        logit_scale=logit_scale,
        settings=settings or HeadSettings(),
        seed=seed,
    )
    _check(training, kind)
    return _fitters()[kind](training)


def load_head(kind: str, settings: Settings, arrays: Arrays) -> Head:
    """Make a head again from what it said in `settings` and `arrays`; equal scores, no fitting.

    Raises StoreError when the arrays are not those of this kind.
    """
    if kind not in KINDS:
        raise StoreError(f"no head is called {kind!r} here; this model is of a newer miniclip")
    try:
        return _loaders()[kind](settings, arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"the arrays of the {kind} head are incomplete or misshapen ({error}); fit it again"
        ) from error


def _fitters() -> dict[str, Callable[[Training], Head]]:
    # Here and not above: the files of the kinds need the names of this one.
    from miniclip.probe.heads import blend, kernel, knn, logistic, prototype, svm, zeroshot  # noqa: PLC0415

    return {
        "blend": blend.fit_blend,
        "kernel": kernel.fit_kernel,
        "knn": knn.fit_knn,
        "logistic": logistic.fit_logistic,
        "prototype": prototype.fit_prototype,
        "svm": svm.fit_svm,
        "zeroshot": zeroshot.fit_zeroshot,
    }


def _loaders() -> dict[str, Callable[[Settings, Arrays], Head]]:
    from miniclip.probe.heads import blend, kernel, knn, linear, mlp, prototype, svm, zeroshot  # noqa: PLC0415

    return {
        "blend": blend.BlendHead.load,
        "kernel": kernel.KernelHead.load,
        "knn": knn.KnnHead.load,
        "linear": linear.LinearHead.load,
        "logistic": linear.load_logistic,
        "mlp": mlp.MlpHead.load,
        "prototype": prototype.PrototypeHead.load,
        "svm": svm.SvmHead.load,
        "zeroshot": zeroshot.ZeroShotHead.load,
    }


def _check(training: Training, kind: str) -> None:
    features, embeddings = training.rows
    counted = {len(features), len(embeddings), len(training.labels), len(training.groups)}
    if len(counted) > 1:
        raise ConfigError(
            f"{len(features)} rows of features, {len(embeddings)} of embeddings, "
            f"{len(training.labels)} labels, {len(training.groups)} groups; give one each per image"
        )
    if sum(training.parts) != features.shape[1]:
        raise ConfigError(
            f"parts of {training.parts} features for rows of {features.shape[1]}; give "
            "Encoder.feature_parts"
        )
    if training.classes < 2:
        raise DatasetError(f"{training.classes} class; a classifier needs at least two")
    labels = training.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < training.classes:
        raise ConfigError(
            f"labels run from {labels.min()} to {labels.max()}; "
            f"with {training.classes} classes they run from 0 to {training.classes - 1}"
        )
    if not (np.isfinite(features).all() and np.isfinite(embeddings).all()):
        raise DatasetError("some features are not finite numbers; embed the images again")
    if kind in ("zeroshot", "blend"):
        _check_prompts(training, kind)
        if kind == "blend" and not len(labels):
            raise DatasetError("no image to learn from; take the zeroshot head, or add images")
    elif bare := np.setdiff1d(np.arange(training.classes), labels).tolist():
        raise DatasetError(
            f"{len(bare)} of {training.classes} classes have no image to learn from "
            f"(the first: number {bare[0]}); add images or leave the class out"
        )


def _check_prompts(training: Training, kind: str) -> None:
    if training.prompts is None:
        raise ConfigError(f"the {kind} head needs prompts; give the names of the classes")
    expected = (training.classes, training.rows.embeddings.shape[1])
    if training.prompts.shape != expected:
        raise ConfigError(
            f"prompts have shape {training.prompts.shape} where {expected} is needed; "
            "give one vector per class, made with the same bundle"
        )
