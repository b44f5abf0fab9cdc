"""Prompts and labels together: right with one image a class as with hundreds.

Three heads speak: the prompts, which need no image; the nearest class mean, which is good with one
image; the kernel head, which is best with many. Their logits are added, as Tip-Adapter does with
prompts and a cache of images (Zhang et al. 2022, equation 4), with weights that are fitted on held-
out images as in LP++ (Huang et al. 2024), but only as far as so many images can move them away from
a start that is good without any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from miniclip.arrays import IntArray
from miniclip.probe.heads.head import Arrays, Head, Rows, Scores, Settings, Training
from miniclip.probe.heads.inner_folds import inner_folds
from miniclip.probe.heads.kernel import KernelHead, fit_kernel
from miniclip.probe.heads.prototype import PrototypeHead, fit_prototype
from miniclip.probe.heads.zeroshot import ZeroShotHead, fit_zeroshot

_START = np.array([1.0, 0.5, 0.0])  # prompts, means, kernel
_LEEWAY = np.array([1.0, 1.0, 3.0])  # how far a weight is expected from its start


@dataclass(frozen=True)
class BlendHead:
    """scores = the weighted sum of the parts' scores; settings: `weights`, and the parts' own."""

    prompts: ZeroShotHead
    means: PrototypeHead
    kernel: KernelHead
    settings: Settings
    kind: str = "blend"

    def scores(self, rows: Rows) -> Scores:
        """(N, F) features and (N, D) unit embeddings to (N, C) float64 logits."""
        return summed(self.settings["weights"], said_by(self.parts, rows))

    @property
    def parts(self) -> tuple[Head, ...]:
        """The three, in the order of the weights."""
        return self.prompts, self.means, self.kernel

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the parts as "part.name"."""
        return {
            f"{part.kind}.{name}": array
            for part in self.parts
            for name, array in part.arrays().items()
        }

    @classmethod
    def load(cls, settings: Settings, arrays: Arrays) -> BlendHead:
        """Make the head of its settings and arrays."""

        def own(kind: str) -> tuple[Settings, Arrays]:
            prefix = f"{kind}."
            named = {name.removeprefix(prefix): array for name, array in arrays.items()}
            return settings[kind], named

        return cls(
            ZeroShotHead.load(*own("zeroshot")),
            PrototypeHead.load(*own("prototype")),
            KernelHead.load(*own("kernel")),
            settings,
        )


def fit_blend(training: Training) -> BlendHead:
    """Fit the parts on all rows, and their weights on what they say of rows held out."""
    prompts, means, kernel = fit_zeroshot(training), fit_prototype(training), fit_kernel(training)
    held, labels = _held_out(training, kernel)
    if len(labels):
        weights = fitted_weights(held, labels, _START, _LEEWAY)
    else:  # one image a class: only the prompts say something about images they have not seen
        said = said_by([prompts], training.rows)
        weights = fitted_weights(said, training.labels, _START[:1], _LEEWAY[:1])
        weights = np.concatenate([weights, _START[1:]])
    return BlendHead(
        prompts,
        means,
        kernel,
        {
            "weights": weights.tolist(),
            **{part.kind: part.settings for part in (prompts, means, kernel)},
        },
    )


def fitted_weights(
    said: NDArray[np.float64],
    labels: IntArray,
    start: NDArray[np.float64],
    leeway: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights, at least 0, of the least loss: that of N images, and of leaving the start.

    said: (J, N, C) logits of J parts. The loss is the sum of -log softmax of the weighted sum at
    the labels, plus half the squared distance from the start in units of the leeway: the most
    probable weights under a normal prior. It is convex.
    """
    rows = np.arange(len(labels))

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = summed(weights, said)
        away = (weights - start) / leeway
        wrong = softmax(logits, axis=1)
        wrong[rows, labels] -= 1
        value = -log_softmax(logits, axis=1)[rows, labels].sum() + (away**2).sum() / 2
        return float(value), np.einsum("nc,jnc->j", wrong, said) + away / leeway

    bounds = [(0.0, None)] * len(start)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def said_by(heads: Any, rows: Rows) -> NDArray[np.float64]:
    """(J, N, C) logits of J heads, each row's mean taken off so that heads can be compared."""
    logits = np.stack([head.scores(rows) for head in heads])
    return np.asarray(logits - logits.mean(axis=2, keepdims=True))


def summed(weights: Any, said: NDArray[np.float64]) -> Scores:
    """(J,) and (J, N, C) to (N, C)."""
    return np.asarray(np.einsum("j,jnc->nc", np.asarray(weights), said))


def _held_out(training: Training, kernel: KernelHead) -> tuple[NDArray[np.float64], IntArray]:
    """Return what the parts say about rows held out, (J, M, C), and the M labels."""
    seen = np.unique(np.stack([training.labels, training.groups]), axis=1)[0]
    images = int(np.median(np.bincount(seen)[np.unique(seen)]))  # of a usual class
    chosen = replace(
        training.settings,
        inner_folds=int(np.clip(images, 2, training.settings.inner_folds)),
        gamma=kernel.settings["gamma"],
        c=1 / kernel.settings["penalty"],
    )
    said, labels = [], []
    for fitted, judged in inner_folds(replace(training, settings=chosen)):
        part = replace(
            training,
            rows=training.rows.take(fitted),
            labels=training.labels[fitted],
            groups=training.groups[fitted],
            settings=chosen,
        )
        heads = (fit_zeroshot(part), fit_prototype(part), fit_kernel(part))
        said.append(said_by(heads, training.rows.take(judged)))
        labels.append(training.labels[judged])
    if not said:
        return np.empty((3, 0, training.classes)), np.empty(0, dtype=np.int64)
    return np.concatenate(said, axis=1), np.concatenate(labels)
