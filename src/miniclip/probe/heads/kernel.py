"""Kernel ridge regression onto the classes, the least-squares SVM: the best head we measured.

Its optimum is one linear system (Suykens and Vandewalle 1999), and the error on every image left
out follows from the inverse alone, without fitting again (Rifkin and Klautau 2004, section 4.2).
So the penalty is chosen by leaving each image out, with its copies, in tenths of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import spotri

from miniclip.arrays import FloatArray, IntArray
from miniclip.probe.heads.gaussian import Space, gaussian, weighted_kernels
from miniclip.probe.heads.head import Arrays, Rows, Scores, Settings, Training

GAMMA = 1.0  # half and twice as much were no better on any data, and no choice saves time
PENALTIES = (0.003, 0.03, 0.3, 3.0)  # tried in this order until the error rises
CHOOSING_ROWS = 1600  # the inverse of more costs time and changes no choice
EXACT_ROWS = 8000  # with more rows, `LANDMARKS` of them stand for all
LANDMARKS = 5000
_FEW = 64  # rows that are asked about at once, up to which a wider copy of the support is kept
_JITTER = 1e-4  # of the kernel's diagonal, which is 1: well above float32 rounding
UNITS_TO_LOGITS = 8.0  # brings temperatures near 1; one-hot targets say nothing of their own


@dataclass(frozen=True)
class KernelHead:
    """scores = 8 * (gaussian(features, support) @ weights + bias), in the head's space.

    support: (M, F) float16, in the space. weights: (M, C) float32. bias: (C,) float32. settings:
    `rate` of the kernel, and what it was made of.
    """

    support: NDArray[np.float16]
    weights: FloatArray
    bias: FloatArray
    space: Space
    settings: Settings
    kind: str = "kernel"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features to (N, C) float64 logits."""
        placed = self.space.place(rows.features)
        # Widening costs many rows nothing, and five heads of a fit must not double their memory.
        support = self._support32 if len(placed) <= _FEW else self.support.astype(np.float32)
        said = weighted_kernels(placed, support, self.weights, self.settings["rate"])
        return (said + self.bias) * UNITS_TO_LOGITS

    @cached_property
    def _support32(self) -> FloatArray:
        return self.support.astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return support, weights, bias, and mean and scale of the space."""
        return self.space.arrays() | {
            "support": self.support,
            "weights": self.weights,
            "bias": self.bias,
        }

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> KernelHead:
        """Make the head of its settings and arrays."""
        return cls(
            support=np.asarray(arrays["support"], np.float16),
            weights=np.asarray(arrays["weights"], np.float32),
            bias=np.asarray(arrays["bias"], np.float32),
            space=Space.load(arrays),
            settings=settings,
        )


def fit_kernel(training: Training) -> KernelHead:
    """Choose the penalty by leaving images out, then solve with all rows."""
    space = Space.of(training.rows.features, training.parts)
    # Rounded before the fit, so that what is fitted is what is stored.
    stored = space.place(training.rows.features).astype(np.float16)
    rows = stored.astype(np.float32)
    bias = np.bincount(training.labels, minlength=training.classes) / len(rows)
    targets = (np.eye(training.classes)[training.labels] - bias).astype(np.float32)
    spread = 2 * float((rows * rows).sum(axis=1).mean()) or 1.0
    gamma, c = training.settings.gamma or GAMMA, training.settings.c
    errors = {} if c else errors_by_penalty(rows, targets, gamma / spread, training)
    penalty = 1 / c if c else float(min(errors, key=lambda tried: errors[tried]))
    support = _support(training)
    return KernelHead(
        support=stored[support],
        weights=_solve(rows, targets, support, gamma / spread, penalty).astype(np.float32),
        bias=bias.astype(np.float32),
        space=space,
        settings={
            "gamma": gamma,
            "rate": gamma / spread,
            "penalty": penalty,
            "left_out_error": errors,
        },
    )


def errors_by_penalty(
    rows: FloatArray, targets: FloatArray, rate: float, training: Training
) -> dict[str, float]:
    """Mean over images of the squared error left out, of each penalty until the error rises.

    rows: (N, F), in the space. targets: (N, C).
    """
    some = _whole_groups(training)
    kernel = gaussian(rows[some], rows[some], rate)
    judged: dict[str, float] = {}
    for penalty in PENALTIES:
        errors = left_out_errors(kernel.copy(), targets[some], penalty, training.groups[some])
        judged[f"{penalty:g}"] = float((errors * errors).sum(axis=1).mean())
        if judged[f"{penalty:g}"] > min(judged.values()):
            break
    return judged


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
