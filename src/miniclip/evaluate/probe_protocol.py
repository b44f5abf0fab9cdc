"""The linear probe of the CLIP paper, and its few-shot form: logistic regression, C searched for.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
appendix A.3: features before the projection, as they are; L-BFGS, at most 1,000 iterations, no
augmentation; the penalty over 10^-6 to 10^6 in 96 logarithmic steps, found on a validation split by
a parametric binary search; then a fit on training and validation images together. It is a yardstick
to compare with published figures. `miniclip fit` standardises, calibrates, and is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import DatasetError
from miniclip.evaluate.matrix_config import Search
from miniclip.probe.splits import make_folds
from miniclip.quiet import quiet

STEPS_PER_DECADE = 8
C_GRID = tuple(10 ** (-6 + step / STEPS_PER_DECADE) for step in range(96 + 1))
MAX_ITERATIONS = 1000
FOLDS = 5  # a part that the data set does not name is a fifth of what it is taken from
MOST_VALIDATION_SHOTS = 4


@dataclass(frozen=True)
class Parts:
    """Row numbers of the training, validation and test images."""

    train: IntArray
    val: IntArray
    test: IntArray


@dataclass(frozen=True)
class ProbeFit:
    """predicted: (M,) int64 classes of the test images. c: chosen; converged: within 1,000 steps.

    validation: accuracy on the validation images by C, of every C that was tried.
    """

    predicted: IntArray
    c: float
    converged: bool
    validation: dict[float, float]


def make_parts(labels: IntArray, part: NDArray[np.str_], group: IntArray, *, seed: int) -> Parts:
    """Take the data set's own parts; what it does not name is a fifth, with groups kept whole.

    labels, group: (N,) int64; part: (N,) of "train", "val", "test". Where there is a val part and
    no test part, the val part is the test, as for ImageNet, and validation images are taken from
    the training images. DatasetError when a class cannot be both learnt and judged.
    """
    part = part.copy()
    if not (part == "test").any():
        part[part == "val"] = "test"
    train = np.flatnonzero(part == "train")
    test, val = np.flatnonzero(part == "test"), np.flatnonzero(part == "val")
    if not len(test):
        train, test = _dealt(labels, group, train, seed)
    if not len(val):
        train, val = _dealt(labels, group, train, seed + 1)
    if missing := set(labels[test].tolist()) - set(labels[np.r_[train, val]].tolist()):
        raise DatasetError(
            f"{len(missing)} classes have test images and no training images; "
            "add some, or leave these classes out"
        )
    return Parts(train, val, test)


def probe(features: FloatArray, labels: IntArray, parts: Parts, search: Search) -> ProbeFit:
    """Search for C, fit on training and validation images, and classify the test images.

    features: (N, F) float32; labels: (N,) int64.
    """
    c, validation = choose_c(features, labels, parts.train, parts.val, search)
    learnt = np.concatenate([parts.train, parts.val])
    rows = _in_span(features, learnt)
    model = _fitted(rows[learnt], labels[learnt], c)
    return ProbeFit(
        predicted=model.predict(rows[parts.test]),
        c=c,
        converged=bool(model.n_iter_.max() < MAX_ITERATIONS),
        validation=validation,
    )


def choose_c(
    features: FloatArray, labels: IntArray, train: IntArray, val: IntArray, search: Search
) -> tuple[float, dict[float, float]]:
    """Return the C of the highest validation accuracy, and the accuracy of every C tried.

    Among equals the smallest, which is the strongest penalty. "binary": 7 values two decades apart,
    then half the distance to either side of the best, four times.
    """
    rows = _in_span(features, train)
    tried: dict[int, float] = {}

    def accuracy(place: int) -> float:
        if place not in tried:
            model = _fitted(rows[train], labels[train], C_GRID[place])
            tried[place] = float(np.mean(model.predict(rows[val]) == labels[val]))
        return tried[place]

    last = len(C_GRID) - 1
    step = 1 if search == "grid" else 2 * STEPS_PER_DECADE
    best = max(range(0, last + 1, step), key=accuracy)  # the first among equals
    while step > 1:
        step //= 2
        near = [place for place in (best - step, best, best + step) if 0 <= place <= last]
        best = max(near, key=accuracy)
    return C_GRID[best], {C_GRID[place]: tried[place] for place in sorted(tried)}


def few_shot_draws(
    labels: IntArray, group: IntArray, pool: IntArray, *, shots: int, draws: int, seed: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Draw `shots` training and min(shots, 4) validation images of every class, several times.

    The sizes are those of Zhou et al. 2022, "Learning to Prompt for Vision-Language Models" (CoOp).
    pool: the rows to draw from; no two drawn images of a class are of one group. DatasetError when
    a class has too few groups.
    """
    wanted = shots + min(shots, MOST_VALIDATION_SHOTS)
    for draw in range(draws):
        rng = np.random.default_rng([seed, shots, draw])
        train: list[int] = []
        val: list[int] = []
        for label in np.unique(labels[pool]).tolist():
            rows = rng.permutation(pool[labels[pool] == label])
            _, first = np.unique(group[rows], return_index=True)
            chosen = rows[np.sort(first)][:wanted].tolist()
            if len(chosen) < wanted:
                raise DatasetError(
                    f"{shots} shots and {wanted - shots} to validate need {wanted} different "
                    f"pictures of every class; class number {label} has {len(chosen)} to learn from"
                )
            train += chosen[:shots]
            val += chosen[shots:]
        yield np.array(train), np.array(val)


def few_shot(
    features: FloatArray,
    labels: IntArray,
    test: IntArray,
    drawn: tuple[IntArray, IntArray],
    search: Search,
) -> IntArray:
    """Classify the test images with a probe fitted on one draw: (M,) int64 classes.

    C is found on the validation images; these do not join the fit, since the shots are counted.
    """
    train, val = drawn
    c, _ = choose_c(features, labels, train, val, search)
    rows = _in_span(features, train)
    predicted: IntArray = _fitted(rows[train], labels[train], c).predict(rows[test])
    return predicted


def _in_span(features: FloatArray, train: IntArray) -> NDArray[np.float64]:
    """All rows (N, F) in an orthonormal basis of the span of some: (N, min(F, len(train))).

    The optimum lies in that span (the representer theorem, Schölkopf et al. 2001), and L-BFGS takes
    the same steps in any orthonormal basis: the same model from a smaller matrix.
    """
    rows = features.astype(np.float64)
    if len(train) >= rows.shape[1]:
        return rows
    basis, _ = np.linalg.qr(rows[train].T)
    coordinates: NDArray[np.float64] = rows @ basis
    return coordinates


def _fitted(rows: NDArray[np.float64], labels: IntArray, c: float) -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 -- a second to import

    with quiet():  # that 1,000 iterations may not be enough is part of the protocol
        return LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(rows, labels)


def _dealt(
    labels: IntArray, group: IntArray, rows: IntArray, seed: int
) -> tuple[IntArray, IntArray]:
    """Divide rows into four fifths and one fifth."""
    folds = make_folds(labels[rows], group[rows], folds=FOLDS, seed=seed)
    return rows[folds.fold_of != 0], rows[folds.fold_of == 0]
