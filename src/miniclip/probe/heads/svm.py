"""The support vector machine with a Gaussian kernel; libsvm fits it, numpy runs it.

libsvm decides between each pair of classes. A pair's decision d becomes the probability that the
first of the two is right, sigmoid(4 d), and a class's logit is the sum of the logs of what its
pairs give it: Platt's sigmoid (1999), held fixed, and the product rule for pairs of Price et al.
(1995). On TrashNet that told classes apart as well as libsvm's vote and was better calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.probe.heads.gaussian import Space, gaussian, squared_distances
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training
from miniclip.probe.heads.inner_folds import held_out_loss, inner_folds

WIDTHS = (0.5, 1.0, 2.0)
C_GRID = (1.0, 10.0, 100.0)
UNCHOSEN = (1.0, 10.0)  # gamma and C where nothing can be held out: one image a class
_STEEPNESS = 4.0  # of the sigmoid; brings temperatures near 1
_BLOCK = 1024  # query rows at a time


@dataclass(frozen=True)
class SvmHead:
    """Logits coupled from the decisions between pairs, on the features.

    support: (M, F) float16, in the head's space, sorted by class. counts: (C,) int64, support rows
    of each class. dual: (M, C - 1) float64, the weight of a row against each other class in order.
    intercepts: (P,) float64, one per pair (0, 1), (0, 2), ..., (1, 2), ...
    """

    support: NDArray[np.float16]
    counts: IntArray
    dual: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    space: Space
    settings: Settings
    kind: str = "svm"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        return coupled(self.decisions(rows), len(self.counts))

    def decisions(self, rows: Rows) -> NDArray[np.float64]:
        """(N, P): above 0 where the first class of the pair wins."""
        support = self.support.astype(np.float32)
        ends = np.cumsum(self.counts)
        pairs = list(combinations(range(len(self.counts)), 2))
        decisions = np.tile(self.intercepts, (len(rows.features), 1))
        for start in range(0, len(decisions), _BLOCK):
            block = slice(start, start + _BLOCK)
            placed = self.space.place(rows.features[block])
            kernel = gaussian(placed, support, self.settings["rate"]).astype(np.float64)
            voices = [
                kernel[:, end - count : end] @ self.dual[end - count : end]
                for end, count in zip(ends, self.counts, strict=True)
            ]
            for pair, (first, second) in enumerate(pairs):
                decisions[block, pair] += voices[first][:, second - 1] + voices[second][:, first]
        return decisions

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        names = ("support", "counts", "dual", "intercepts")
        return {name: getattr(self, name) for name in names} | self.space.arrays()

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> SvmHead:
        """Make the head of its settings and arrays."""
        return cls(
            support=np.asarray(arrays["support"], np.float16),
            counts=np.asarray(arrays["counts"], np.int64),
            dual=np.asarray(arrays["dual"], np.float64),
            intercepts=np.asarray(arrays["intercepts"], np.float64),
            space=Space.load(arrays),
            settings=settings,
        )


def fit_svm(training: Training) -> SvmHead:
    """Choose gamma and C by the held-out loss, then fit all rows."""
    space = Space.of(training.rows.features, training.parts)
    # Rounded before the fit, so that what is fitted is what is stored.
    stored = space.place(training.rows.features).astype(np.float16)
    rows = stored.astype(np.float32)
    distances = squared_distances(rows, rows)
    spread = float(distances.mean(dtype=np.float64)) or 1.0
    gamma, c, loss = choose(distances / np.float32(spread), training)
    model = _machine(c).fit(np.exp(distances * np.float32(-gamma / spread)), training.labels)
    # scikit-learn turns the sign for two classes, so that the second wins above 0.
    sign = -1.0 if training.classes == 2 else 1.0
    return SvmHead(
        support=stored[model.support_],
        counts=model.n_support_.astype(np.int64),
        dual=np.ascontiguousarray(sign * model.dual_coef_.T),
        intercepts=sign * model.intercept_,
        space=space,
        settings={"gamma": gamma, "c": c, "rate": gamma / spread, "inner_loss": loss},
    )


def choose(distances: FloatArray, training: Training) -> tuple[float, float, float | None]:
    """Gamma and C with the least held-out loss, and that loss in nats an image.

    distances: (N, N) squared, in units of their mean.
    """
    settings, labels = training.settings, training.labels
    widths = WIDTHS if settings.gamma is None else (settings.gamma,)
    grid = C_GRID if settings.c is None else (settings.c,)
    folds = inner_folds(training)
    if not folds or len(widths) == len(grid) == 1:
        return settings.gamma or UNCHOSEN[0], settings.c or UNCHOSEN[1], None
    losses = []
    for gamma in widths:
        kernel = np.exp(np.float32(-gamma) * distances)
        for c in grid:
            total = 0.0
            for fitted, judged in folds:
                model = _machine(c).fit(kernel[np.ix_(fitted, fitted)], labels[fitted])
                decisions = model.decision_function(kernel[np.ix_(judged, fitted)])
                if len(model.classes_) == 2:
                    decisions = -decisions[:, None]
                logits = coupled(decisions, len(model.classes_))
                total += held_out_loss(logits, np.searchsorted(model.classes_, labels[judged]))
            losses.append((total / sum(len(judged) for _, judged in folds), gamma, c))
    loss, gamma, c = min(losses)
    return gamma, c, loss


def coupled(decisions: NDArray[np.float64], classes: int) -> Scores:
    """(N, P) decisions between pairs to (N, C) logits: sums of log sigmoid(4 d) over its pairs."""
    logits = np.zeros((len(decisions), classes))
    for pair, (first, second) in enumerate(combinations(range(classes), 2)):
        steep = _STEEPNESS * decisions[:, pair]
        logits[:, first] -= np.logaddexp(0, -steep)
        logits[:, second] -= np.logaddexp(0, steep)
    return logits


def _machine(c: float) -> Any:
    from sklearn.svm import SVC  # noqa: PLC0415 -- a second to import

    return SVC(C=c, kernel="precomputed", decision_function_shape="ovo", cache_size=500)
