"""The gate: is this one of your images at all? A classifier answers everything; this looks first.

Distance: one minus the mean cosine of the features to those of the 5 nearest reference images (deep
nearest neighbours, Sun et al. 2022). On real photographs it refused more foreign images at the same
cost in own ones than the Mahalanobis distance in principal components did, and it needs no matrix
that few images cannot determine. It says nothing about which class an image has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.errors import ConfigError, StoreError

Array = NDArray[np.float64]

KIND = "knn-cosine"
NEIGHBOURS = 5
REFERENCES = 2000  # rows kept at most, 10 MB of float16 at F = 2560
MAX_REFUSED = 0.01
_BLOCK = 1024  # rows compared at a time


@dataclass(frozen=True)
class Gate:
    """A fitted gate.

    references: (M, F) float16 unit rows of training images. threshold: the largest distance that
    still passes, in [0, 2].
    """

    references: NDArray[np.float16] = field(repr=False)
    threshold: float
    neighbours: int = NEIGHBOURS

    @classmethod
    def fit(
        cls,
        features: FloatArray,
        fold_of: IntArray,
        *,
        max_refused: float = MAX_REFUSED,
        seed: int = 0,
        held_out: Array | None = None,
    ) -> Self:
        """Keep reference images, and learn from held-out ones how far is too far.

        features: (N, F) float32 of the training images, plain view. fold_of: (N,) integers, the
        fold that holds each image out; pictures of one group share a fold. The threshold is the
        ceil((N + 1) (1 - max_refused))-th smallest held-out distance, so that a new image of the
        same kind is refused with a chance of at most max_refused; with fewer than 1 / max_refused
        images it is the largest one, and the chance at most 1 / (N + 1). held_out: what
        `held_out_distances` gave for the same arguments, to measure them once. Raises ConfigError
        for fewer than two folds or a share outside (0, 1).
        """
        if not 0 < max_refused < 1:
            raise ConfigError(f"max_refused is {max_refused}; give a share above 0 and below 1")
        if held_out is None:
            held_out = held_out_distances(features, fold_of, seed=seed)
        order = math.ceil((len(held_out) + 1) * (1 - max_refused) - 1e-9)
        threshold = np.sort(held_out)[min(order, len(held_out)) - 1]
        references = unit_rows(features[_sample(len(features), seed)]).astype(np.float16)
        return cls(references, float(threshold))

    def distance(self, features: FloatArray) -> Array:
        """Measure how far images are from the references: (N, F) -> (N,) float64 in [0, 2]."""
        return _distances(features, self.references.astype(np.float32), self.neighbours)

    def refuses(self, features: FloatArray) -> NDArray[np.bool_]:
        """Tell which images are none of these: (N, F) -> (N,) bool."""
        return self.distance(features) > self.threshold

    @property
    def settings(self) -> dict[str, Any]:
        """What JSON holds of it; with `arrays` all that `load_gate` needs."""
        return {"kind": KIND, "threshold": self.threshold, "neighbours": self.neighbours}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what an npz file holds of it."""
        return {"references": self.references}


def load_gate(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Gate:
    """Make a gate again from what it said in `settings` and `arrays`; StoreError if it cannot."""
    if settings.get("kind") != KIND:
        raise StoreError(
            f"no gate is called {settings.get('kind')!r} here; this model is of a newer miniclip"
        )
    try:
        references = np.asarray(arrays["references"], dtype=np.float16)
        rows, _ = references.shape
        gate = Gate(references, float(settings["threshold"]), int(settings["neighbours"]))
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"the gate is incomplete or misshapen ({error!r}); fit again") from error
    if rows < 1:
        raise StoreError("the gate has no reference image; fit again")
    return gate


def held_out_distances(features: FloatArray, fold_of: IntArray, *, seed: int = 0) -> Array:
    """Measure each training image against the references of the other folds: (N,) float64."""
    if len(np.unique(fold_of)) < 2:
        raise ConfigError("the gate needs at least 2 folds of images to learn what is too far")
    rows = unit_rows(features)
    kept = np.zeros(len(rows), dtype=bool)
    kept[_sample(len(rows), seed)] = True
    distances = np.empty(len(rows))
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        # Rounded as they are stored: the threshold is for those.
        references = rows[kept & ~inside].astype(np.float16).astype(np.float32)
        distances[inside] = _distances(rows[inside], references, NEIGHBOURS)
    return distances


def _sample(images: int, seed: int) -> IntArray:
    """Choose the reference images: all, or a random REFERENCES of them, in order."""
    chosen: IntArray = np.random.default_rng(seed).permutation(images)[:REFERENCES]
    return np.sort(chosen)


def _distances(features: FloatArray, references: FloatArray, neighbours: int) -> Array:
    nearest = min(neighbours, len(references))
    distances = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        cosines = unit_rows(features[start : start + _BLOCK]) @ references.T
        closest = np.partition(cosines, -nearest, axis=1)[:, -nearest:]
        distances[start : start + _BLOCK] = 1 - closest.mean(axis=1, dtype=np.float64)
    return distances
