"""`miniclip.Classifier`: a classifier of image files for those who know scikit-learn.

`X` is a list of paths, `y` a list of labels. It fits a head on frozen features with probabilities
that are calibrated; the whole story of a data set, with figures and a report, is `miniclip fit`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from miniclip.encoder import Encoder
from miniclip.errors import DatasetError, MissingExtraError
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.calibration import fit_temperature, softmax
from miniclip.probe.cross_fit import cross_fit, training_rows, view_scores
from miniclip.probe.duplicates import find_repeats
from miniclip.probe.learn import DEFAULT_HEAD, HeadChoice, MlpTrainer, head_fitter
from miniclip.probe.splits import make_folds
from miniclip.probe.table import FeatureTable, read_table
from miniclip.runtimes import load_encoder
from miniclip.views import named_views

Paths = Sequence[str | PathLike[str]] | NDArray[Any] | Any
"""A list, an array (N,) or (N, 1), lists of one, or a data frame with one column."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fit and predict image files by frozen features.

    Features come from the user's cache, so cross-validation embeds each image once. Repeated
    pictures count as one wherever something is chosen or calibrated on folds inside `fit`; folds
    outside, such as those of `cross_val_score`, are the caller's business.

    head: "kernel", "logistic", "svm", "prototype", "knn", "zeroshot", "blend", or "mlp", which
    needs miniclip[train].
    bundle: name or directory of a bundle, an `Encoder`, or None for the default bundle.
    views: "plain", "flip", "crops", "tiles", with commas.
    folds: how many folds choose the temperature of the probabilities; 0 leaves them uncalibrated.
    settings: settings of the head by name, such as {"c": 1.0}.
    seed: of all that is drawn at random.

    After `fit`: classes_, (C,) labels in ascending order, of the type of `y`; head_, the fitted
    head; temperature_, what its scores are divided by.
    """

    def __init__(
        self,
        head: str = DEFAULT_HEAD,
        *,
        bundle: str | Path | Encoder | None = None,
        views: str = "plain",
        folds: int = 5,
        settings: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.head = head
        self.bundle = bundle
        self.views = views
        self.folds = folds
        self.settings = settings
        self.seed = seed

    def fit(self, X: Paths, y: Iterable[Any]) -> Self:  # noqa: N803 - the name of the field
        """Fit on image files and their labels; DatasetError names files that cannot be read."""
        paths = _listed(X)
        labels = np.asarray(y if isinstance(y, np.ndarray) else list(y))
        if labels.shape != (len(paths),):
            raise ValueError(f"X has {len(paths)} images and y the shape {labels.shape}")
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise DatasetError(
                f"there is one class in y, {self.classes_.tolist()}; a classifier needs two"
            )
        encoder = self._encoder()
        overrides = tuple(f"{key}={value}" for key, value in (self.settings or {}).items())
        choice = HeadChoice(self.head, overrides, seed=self.seed)
        names = tuple(map(str, self.classes_))
        fit_head = head_fitter(choice, names, encoder, _trainer() if self.head == "mlp" else None)
        table = self._table(encoder, paths)
        group = find_repeats(table, numbers).group
        self.temperature_ = 1.0
        if self.folds:
            dealt = make_folds(numbers, group, folds=self.folds, seed=self.seed, classes=names)
            held_out = cross_fit(fit_head, table, numbers, dealt, groups=group)
            self.temperature_ = fit_temperature(held_out.scores, numbers)
        self.head_ = fit_head(*training_rows(table, numbers, group, np.arange(len(table))))
        self.n_features_in_ = 1  # a path; pipelines and checks ask for it
        return self

    def decision_function(self, X: Paths) -> NDArray[np.float64]:  # noqa: N803
        """Return the scores of the head before calibration, (N, C) float64."""
        check_is_fitted(self)
        return view_scores(self.head_, self._table(self._encoder(), _listed(X)))

    def predict_proba(self, X: Paths) -> NDArray[np.float64]:  # noqa: N803
        """Return calibrated probabilities, (N, C) float64, columns as in `classes_`."""
        return softmax(self.decision_function(X), self.temperature_)

    def predict(self, X: Paths) -> NDArray[Any]:  # noqa: N803
        """Return the likeliest label of each image, (N,)."""
        answer = self.decision_function(X).argmax(axis=1)
        answers: NDArray[Any] = self.classes_[answer]
        return answers

    def _encoder(self) -> Encoder:
        if isinstance(self.bundle, Encoder):
            return self.bundle
        return load_encoder(self.bundle)

    def _table(self, encoder: Encoder, paths: Sequence[Path]) -> FeatureTable:
        """Read the features of the images, a row for each, in order, however often one is given."""
        sources = [ImageSource.of(path) for path in paths]
        with VectorCache.open() as cache:
            table = read_table(encoder, sources, cache, views=named_views(self.views))
        if table.skipped:
            first = table.skipped[0]
            raise DatasetError(
                f"{len(table.skipped)} of {len(sources)} images cannot be read; the first, "
                f"{first.name}: {first.reason}; leave them out"
            )
        return table


def _listed(X: Paths) -> list[Path]:  # noqa: N803
    """Return the paths in any of the shapes that scikit-learn's tools hand on."""
    if isinstance(X, str | PathLike):
        raise DatasetError(f"X is the one path {os.fspath(X)!r}; give a list of image files")
    # A data frame and a series say what they hold without anybody knowing their library.
    given = list(X.to_numpy() if hasattr(X, "to_numpy") else X)
    if all(isinstance(one, list | tuple | np.ndarray) and len(one) == 1 for one in given):
        given = [one[0] for one in given]
    for one in given:
        if not isinstance(one, str | PathLike):
            raise DatasetError(
                f"X holds {one!r:.60}, which is no path; give paths of image files, in a list or "
                "in one column"
            )
    return [Path(one) for one in given]


def _trainer() -> MlpTrainer:
    try:
        from miniclip.train.mlp import train_mlp  # noqa: PLC0415 -- brings torch, for this head alone
    except ImportError as error:
        raise MissingExtraError("The mlp head", "train") from error
    return train_mlp
