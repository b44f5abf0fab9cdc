"""Kernel ridge regression onto the classes, the least-squares SVM: the best head we measured.

Its optimum is one linear system (Suykens and Vandewalle 1999), and the error on every image left
out follows from the inverse alone, without fitting again (Rifkin and Klautau 2004, section 4.2).
So width and penalty are chosen by leaving each image out, with its copies, in tenths of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import spotri

from miniclip.arrays import FloatArray, IntArray
from miniclip.probe.heads.gaussian import gaussian, rooted, squared_distances, weighted_kernels
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training

WIDTHS = (1.0, 0.5, 2.0)  # gamma, the first tried first
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # tried in this order until the error rises
CHOOSING_ROWS = 1600  # the inverse of more costs time and changes no choice
EXACT_ROWS = 8000  # with more rows, `LANDMARKS` of them stand for all
LANDMARKS = 4000
_JITTER = 1e-4  # of the kernel's diagonal, which is 1: well above float32 rounding
UNITS_TO_LOGITS = 8.0  # brings temperatures near 1; one-hot targets say nothing of their own


@dataclass(frozen=True)
class KernelHead:
    """scores = 8 * (gaussian(root(x) - mean, support) @ weights + bias), on the features.

    support: (M, F) float16, rooted and centred. weights: (M, C) float32. bias: (C,) and mean: (F,)
    float32. settings: `rate` of the kernel, and gamma and penalty as chosen.
    """

    support: NDArray[np.float16]
    weights: FloatArray
    bias: FloatArray
    mean: FloatArray
    settings: Settings
    kind: str = "kernel"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        centred = rooted(rows.features) - self.mean
        said = weighted_kernels(centred, self._support32, self.weights, self.settings["rate"])
        return (said + self.bias) * UNITS_TO_LOGITS

    @cached_property
    def _support32(self) -> FloatArray:
        return self.support.astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return support, weights, bias and mean."""
        return {
            "support": self.support,
            "weights": self.weights,
            "bias": self.bias,
            "mean": self.mean,
        }

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> KernelHead:
        """Make the head of its settings and arrays."""
        return cls(
            support=np.asarray(arrays["support"], np.float16),
            weights=np.asarray(arrays["weights"], np.float32),
            bias=np.asarray(arrays["bias"], np.float32),
            mean=np.asarray(arrays["mean"], np.float32),
            settings=settings | {"rate": float(settings["rate"])},
        )


class Choice(NamedTuple):
    """error: mean over images of the squared error left out; NaN where nothing could be left out.

    gamma: rate of the kernel, in units of 1 / mean squared distance.
    """

    error: float
    gamma: float
    penalty: float


def fit_kernel(training: Training) -> KernelHead:
    """Choose gamma and penalty by leaving images out, then solve with all rows."""
    roots = rooted(training.rows.features)
    mean = roots.mean(axis=0, dtype=np.float64).astype(np.float32)
    # Rounded before the fit, so that what is fitted is what is stored.
    stored = (roots - mean).astype(np.float16)
    rows = stored.astype(np.float32)
    targets = np.eye(training.classes, dtype=np.float32)[training.labels]
    bias = targets.mean(axis=0)
    spread = 2 * float((rows * rows).sum(axis=1).mean()) or 1.0
    chosen = choose(rows, targets - bias, spread, training)
    rate = chosen.gamma / spread
    support = _support(training)
    weights = _solve(rows, targets - bias, support, rate, chosen.penalty)
    settings = {"gamma": chosen.gamma, "penalty": chosen.penalty, "rate": rate}
    return KernelHead(
        support=stored[support],
        weights=weights.astype(np.float32),
        bias=bias,
        mean=mean,
        settings=settings | {"left_out_error": None if np.isnan(chosen.error) else chosen.error},
    )


def choose(rows: FloatArray, targets: FloatArray, spread: float, training: Training) -> Choice:
    """Try penalties at the first width, then the other widths at the best penalty.

    rows: (N, F) centred. targets: (N, C). spread: mean squared distance between rows.
    """
    settings = training.settings
    some = _whole_groups(training)
    distances = squared_distances(rows[some], rows[some]) / np.float32(spread)
    groups = training.groups[some]

    def judged(gamma: float, penalty: float) -> Choice:
        kernel = np.exp(np.float32(-gamma) * distances)
        errors = left_out_errors(kernel, targets[some], penalty, groups)
        return Choice(float((errors * errors).sum(axis=1).mean()), gamma, penalty)

    widths = WIDTHS if settings.gamma is None else (settings.gamma,)
    penalties = PENALTIES if settings.c is None else (1 / settings.c,)
    if len(np.unique(groups)) < 2:
        return Choice(np.nan, widths[0], penalties[0])
    best = judged(widths[0], penalties[0])
    for penalty in penalties[1:]:
        tried = judged(widths[0], penalty)
        if tried.error >= best.error:
            break
        best = tried
    return min([best, *(judged(gamma, best.penalty) for gamma in widths[1:])])


def left_out_errors(
    kernel: FloatArray, targets: FloatArray, penalty: float, groups: IntArray
) -> FloatArray:
    """Target minus what a fit without the row's whole group would predict: (N, C).

    kernel: (N, N); it is overwritten. With G the inverse of kernel + penalty * I and A = G targets,
    the errors of a group g are the solution of G[g, g] e = A[g] (Rifkin and Klautau 2004, for
    groups of one: e = A / diag G).
    """
    kernel[np.diag_indices(len(kernel))] += np.float32(penalty)
    factor, lower = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve((factor, lower), targets, check_finite=False)
    inverse, _ = spotri(factor, lower=lower, overwrite_c=True)  # the lower triangle
    errors: FloatArray = weights / np.diag(inverse)[:, None]
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    together = np.flatnonzero(sizes[group_of] > 1)
    ordered = together[np.argsort(group_of[together], kind="stable")]
    for group in np.split(ordered, np.flatnonzero(np.diff(group_of[ordered])) + 1):
        if len(group):
            block = inverse[np.ix_(group, group)]
            block = np.tril(block) + np.tril(block, -1).T
            errors[group] = np.linalg.solve(block, weights[group])
    return errors


def _solve(
    rows: FloatArray, targets: FloatArray, support: IntArray, rate: float, penalty: float
) -> NDArray[Any]:
    """Weights (M, C) of the support that fit all rows best.

    With fewer support rows than rows this is the subset of regressors, or Nyström kernel ridge
    (Williams and Seeger 2001; Rudi et al. 2015, equation 8).
    """
    kernel = gaussian(rows[support], rows[support], rate)
    if len(support) == len(rows):
        kernel[np.diag_indices(len(kernel))] += np.float32(penalty)
        factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(factor, targets, check_finite=False))
    # In coordinates where the landmarks' kernel is the identity, nothing is badly conditioned.
    kernel[np.diag_indices(len(kernel))] += np.float32(_JITTER)
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    normal = penalty * np.eye(len(support))
    right = np.zeros((len(support), targets.shape[1]))
    for start in range(0, len(rows), len(support)):
        block = slice(start, start + len(support))
        part = gaussian(rows[support], rows[block], rate)
        part = solve_triangular(factor, part, lower=True, check_finite=False)
        normal += part @ part.T
        right += part @ targets[block]
    inner = cho_solve(cho_factor(normal, lower=True, overwrite_a=True), right)
    return np.asarray(solve_triangular(factor, inner, lower=True, trans="T"))


def _support(training: Training) -> IntArray:
    """Sorted numbers of all rows, or of `LANDMARKS` drawn at random."""
    count = len(training.labels)
    if count <= EXACT_ROWS:
        return np.arange(count)
    drawn = np.random.default_rng(training.seed).choice(count, LANDMARKS, replace=False)
    return np.sort(drawn)


def _whole_groups(training: Training) -> IntArray:
    """Sorted numbers of the rows of groups drawn at random until there are `CHOOSING_ROWS`."""
    _, group_of, sizes = np.unique(training.groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(training.seed).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.flatnonzero(np.isin(group_of, order[before < CHOOSING_ROWS]))
