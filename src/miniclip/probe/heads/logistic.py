"""Multinomial logistic regression, the linear head: its penalty chosen on inner folds.

The optimum lies in the span of the rows (the representer theorem, Schölkopf et al. 2001), so the
standardised features are first turned into the coordinates of their principal axes, as many as
there are rows at most: the same optimum from smaller matrices. Penalties are tried from strong to
weak, each starting where the last one ended, until the held-out loss rises. No calibration here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.probe.heads.head import Training
from miniclip.probe.heads.inner_folds import held_out_loss, inner_folds
from miniclip.probe.heads.linear import LinearHead, spread_of
from miniclip.quiet import quiet

C_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # the held-out loss is flat between
UNCHOSEN_C = 1e-2  # where no inner fold can be made: one image a class
_SWEEP_AXES = 512  # the strongest axes choose the same C as all of them, three times faster
_NEGLIGIBLE = 1e-6  # axes whose share of the largest variance is below this are rounding errors


def fit_logistic(training: Training) -> LinearHead:
    """Choose C, fit on all rows, and fold everything back into one weight per feature."""
    mean, scale = spread_of(training.rows.features)
    standardised: FloatArray = (training.rows.features - mean) / scale
    axes = principal_axes(standardised)
    coordinates: FloatArray = standardised @ axes
    c = training.settings.c
    losses: dict[str, float] = {}
    if c is None:
        losses = sweep(coordinates[:, :_SWEEP_AXES], training)
        c = float(min(losses, key=lambda tried: losses[tried])) if losses else UNCHOSEN_C
    weights, bias = coefficients(_fitted(_regression(c), coordinates, training.labels))
    return LinearHead(
        weights=(axes @ weights).astype(np.float32),
        bias=bias.astype(np.float32),
        mean=mean,
        scale=scale,
        settings={"c": c, "inner_loss": losses},
        kind="logistic",
    )


def principal_axes(rows: FloatArray) -> FloatArray:
    """Orthonormal axes that span the rows, strongest first: (N, F) -> (F, R), R <= min(N, F)."""
    tall = len(rows) > rows.shape[1]
    gram = rows.T @ rows if tall else rows @ rows.T
    variances, vectors = np.linalg.eigh(gram)
    kept = variances > _NEGLIGIBLE * max(variances[-1], np.finfo(np.float32).tiny)
    vectors = vectors[:, kept][:, ::-1]
    axes = vectors if tall else (rows.T @ vectors) / np.sqrt(variances[kept][::-1])
    return np.ascontiguousarray(axes, dtype=np.float32)


def sweep(coordinates: FloatArray, training: Training) -> dict[str, float]:
    """Mean held-out negative log likelihood (nats) of each C that was tried; {} without folds."""
    labels, folds = training.labels, inner_folds(training)
    models = [_regression(C_GRID[0]) for _ in folds]
    losses: dict[str, float] = {}
    for c in C_GRID if folds else ():
        total = 0.0
        for model, (fitted, judged) in zip(models, folds, strict=True):
            model.set_params(C=c)
            _fitted(model, coordinates[fitted], labels[fitted])
            weights, bias = coefficients(model)
            logits = coordinates[judged] @ weights + bias
            total += held_out_loss(logits, np.searchsorted(model.classes_, labels[judged]))
        losses[f"{c:g}"] = total / sum(len(judged) for _, judged in folds)
        if losses[f"{c:g}"] > min(losses.values()):
            break
    return losses


def coefficients(model: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """(R, C) weights and (C,) bias of a fitted regression; two classes get one column each."""
    weights, bias = model.coef_.T, model.intercept_
    if len(bias) == 1:  # sigmoid(z) is the softmax of (-z / 2, z / 2)
        return np.hstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def _regression(c: float) -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 -- a second to import

    return LogisticRegression(C=c, warm_start=True, max_iter=300, tol=1e-4)


def _fitted(model: Any, rows: FloatArray, labels: IntArray) -> Any:
    with quiet():  # an optimum missed by a hair is no news to the user
        return model.fit(rows, labels)
