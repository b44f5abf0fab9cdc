"""Which images may judge a fitted model, and by which head: none that has learnt from them.

A model directory records each image of its fit. One that the model has not learnt from is judged
by the model itself. One of a fold is judged by the head of that fold, which is fitted again on the
other folds, with the settings and seed of the fit; so are the rules. Any other has been learnt from
and may not judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from miniclip.arrays import IntArray
from miniclip.encoder import Encoder
from miniclip.errors import BundleError
from miniclip.evaluate.robustness.contestants import Judge
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.cross_fit import cross_fit, view_scores
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.learn import MlpTrainer, head_fitter
from miniclip.probe.model import IMAGES_FILE, ClassifierModel
from miniclip.probe.rules import HeldOut, fit_rules
from miniclip.probe.splits import Folds
from miniclip.probe.table import read_table

ITSELF = -1  # in place of a fold: the model as it is


@dataclass(frozen=True)
class Record:
    """What a model directory says of one image of the fit."""

    content: str
    label: str
    part: str
    group: int
    learnt_from: bool
    fold: int | None
    predicted: str | None


@dataclass(frozen=True)
class FitRecords:
    """The images of a fit, in its order."""

    records: tuple[Record, ...]

    @classmethod
    def of(cls, model: ClassifierModel) -> FitRecords:
        """Read them; BundleError when they are damaged. A model without a directory has none."""
        if model.directory is None:
            return cls(())
        path = model.directory / IMAGES_FILE
        try:
            entries = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
            names = [entry.name for entry in fields(Record)]
            return cls(tuple(Record(**{name: one.get(name) for name in names}) for one in entries))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f"{path} is damaged ({error!r}); fit the model again") from error

    def folded(self) -> list[Record]:
        """Return the images that were held out in turn, or judged in folds."""
        return [one for one in self.records if one.fold is not None]

    def fold_of(self, available: set[str]) -> dict[str, int]:
        """Return by which fold each content that may judge is judged; ITSELF for the model.

        available: the contents at hand. Without all the images of the folds no head of a fold can
        be fitted again.
        """
        whole = all(one.content in available for one in self.folded())
        learnt_groups = {one.group for one in self.records if one.learnt_from}
        found = dict.fromkeys(available - {one.content for one in self.records}, ITSELF)
        for one in self.records:
            if one.learnt_from:
                if one.fold is not None and whole:
                    found[one.content] = one.fold
            elif one.group not in learnt_groups:  # no copy of it was learnt from either
                found[one.content] = one.fold if one.fold is not None and whole else ITSELF
        return found


def judges_of(
    model: ClassifierModel,
    encoder: Encoder,
    records: FitRecords,
    sources: Mapping[str, ImageSource],
    cache: VectorCache,
    *,
    folds: Sequence[int],
    trainer: MlpTrainer | None = None,
) -> tuple[dict[int, Judge], int]:
    """Return the judge of each fold that is asked for, and how many answers of the fit differ.

    Heads that are fitted again should answer as those of the fit; other versions of a library, or
    other features, may make them differ.

    sources: images by content, those of the fit among them. cache: of whole pictures. trainer: of
    MLP heads; MissingExtraError when one is needed and there is none.
    """
    judges = {ITSELF: Judge(model.head, model.rules)}
    if all(fold == ITSELF for fold in folds):
        return judges, 0
    own = records.folded()
    table = read_table(encoder, _named(own, sources), cache, views=model.views)
    labels = np.array([model.classes.index(one.label) for one in own], dtype=np.int64)
    group = np.array([one.group for one in own], dtype=np.int64)
    fold_of = np.array([one.fold for one in own], dtype=np.int64)
    if any(one.learnt_from for one in own):
        settings = _settings(model)
        fit = head_fitter(settings.choice, model.classes, encoder, trainer)
        dealt = Folds(fold_of, settings.seed, "grouped")
        again = cross_fit(fit, table, labels, dealt, groups=group)
        scores, heads = again.scores, again.heads
    else:
        scores = view_scores(model.head, table)
        heads = (model.head,) * (int(fold_of.max()) + 1)
    held = HeldOut(scores, labels, group, tuple(one.content for one in own))
    for fold in sorted(set(folds) - {ITSELF}):
        rules = fit_rules(held.take(fold_of != fold), model.rules.settings)
        judges[fold] = Judge(heads[fold], rules)
    answers = [model.classes[answer] for answer in scores.argmax(axis=1).tolist()]
    differing = sum(one.predicted != said for one, said in zip(own, answers, strict=True))
    return judges, differing


def _named(records: Sequence[Record], sources: Mapping[str, ImageSource]) -> list[ImageSource]:
    """Return a source for each image, with names that are all different."""
    return [
        ImageSource(f"{number} {source.name}", source.path, source.data, source.offset, source.size)
        for number, source in enumerate(sources[one.content] for one in records)
    ]


def _settings(model: ClassifierModel) -> FitSettings:
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.about["settings"].items()
    }
    return FitSettings(**known)


def stratified(labels: IntArray, wanted: int, seed: int) -> IntArray:
    """Draw so many rows that classes keep their shares: sorted row numbers.

    Each class is shuffled and spread evenly over [0, 1); the first `wanted` are taken.
    """
    if wanted >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.sort(np.argsort(place, kind="stable")[:wanted])
