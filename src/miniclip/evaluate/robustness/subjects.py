"""From data and models to contestants: which images take part, and who judges them.

Images are drawn by a seed, so that classes keep their shares, and before anything is embedded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from miniclip.arrays import IntArray
from miniclip.datasets.captions import CaptionSet
from miniclip.datasets.folders import LabelledImages
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.datasets.spelling import match_names, spelling
from miniclip.embed import Skipped
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, DatasetError
from miniclip.evaluate.classifier import match_classes
from miniclip.evaluate.robustness.conditions import Condition, CorruptedImages
from miniclip.evaluate.robustness.contestants import (
    Captions,
    Contestant,
    Fitted,
    Truth,
    ZeroShot,
)
from miniclip.evaluate.robustness.honest import ITSELF, FitRecords, judges_of, stratified
from miniclip.images import ImageSource
from miniclip.index.contents import read_contents
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.learn import MlpTrainer
from miniclip.probe.model import ClassifierModel
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.table import read_table
from miniclip.views import PLAIN
from miniclip.zeroshot import class_vectors

_AT_ONCE = 256  # files hashed per question to the cache


@dataclass(frozen=True)
class Units:
    """What is right or wrong: M units of N images.

    names, sources: N. row_of: (M,) the image of each unit. group: (M,) units that share their luck.
    truth: M right answers in words. about: which images these are.
    """

    data: str
    names: tuple[str, ...]
    sources: tuple[ImageSource, ...]
    row_of: IntArray
    group: IntArray
    truth: tuple[str, ...]
    about: str
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def protocol(self, conditions: Sequence[Condition]) -> str:
        """Say in words what was done."""
        return (
            f"{len(self.names):,} images of {self.data}{self.about}, clean and in "
            f"{len(conditions) - 1} conditions, corrupted at the size that the encoder sees; "
            "95 % intervals over images (repeated pictures and what belongs together count as one)"
        )


class Subjects(NamedTuple):
    """All that a run needs; pictures by the fingerprint of their encoder."""

    contestants: tuple[Contestant, ...]
    units: Units
    pictures: Mapping[str, CorruptedImages]
    judged_by: Mapping[str, str]


@dataclass(frozen=True)
class Caches:
    """whole: vectors of pictures as they are, shared with all verbs. corrupted: those of others."""

    whole: VectorCache
    corrupted: VectorCache


@dataclass(frozen=True)
class Draw:
    """How many images, and by which seed. say: called with what is done next."""

    images: int
    seed: int = 0
    say: Callable[[str], None] = field(default=lambda _what: None, repr=False)


def fitted_subjects(
    models: Mapping[str, ClassifierModel],
    encoders: Mapping[str, Encoder],
    splits: LabelledSplits,
    caches: Caches,
    draw: Draw,
    *,
    skip_unknown: bool = False,
    trainer: MlpTrainer | None = None,
) -> Subjects:
    """Put fitted models to the test on images that none of them has learnt from.

    models, encoders: by the name of the model. Where no such image is left, all are used, and a
    warning says so. Raises ConfigError for models that know different classes, DatasetError for
    classes that they do not know, MissingExtraError for heads that only torch can fit again.
    """
    classes = _shared_classes(models)
    splits, strangers = match_classes(splits, classes, skip_unknown=skip_unknown)
    draw.say("reading files")
    content_of = _contents(splits.labelled.sources, caches.whole)
    at_hand = set(content_of.values())
    records = {name: FitRecords.of(model) for name, model in models.items()}
    folds = {name: own.fold_of(at_hand) for name, own in records.items()}
    honest = np.array(
        [
            all(content_of.get(source.name) in own for own in folds.values())
            for source in splits.labelled.sources
        ]
    )
    warnings: list[str] = []
    if not honest.any():
        folds = {name: dict.fromkeys(at_hand, ITSELF) for name in folds}
        warnings.append(
            f"every image of {splits.labelled.name} was learnt from by "
            f"{', '.join(name for name, own in records.items() if own.records)}, and none of them "
            "can be held out again: these figures flatter; give images that the models do not know"
        )
    candidates = splits.rows(honest if honest.any() else np.ones(len(splits), dtype=bool))
    chosen = candidates.rows(stratified(candidates.labelled.labels, draw.images, draw.seed))
    name, encoder = next(iter(encoders.items()))
    draw.say("reading features")
    prepared = prepare(encoder, chosen, caches.whole, views=models[name].views)
    sources = {
        content_of[one.name]: one for one in splits.labelled.sources if one.name in content_of
    }
    contestants: list[Contestant] = []
    judged_by: dict[str, str] = {}
    for name, model in models.items():
        fold_of = [folds[name][content] for content in prepared.table.contents]
        draw.say(f"fitting the heads of {name} again")
        judges, differing = judges_of(
            model, encoders[name], records[name], sources, caches.whole,
            folds=sorted(set(fold_of)), trainer=trainer,
        )  # fmt: skip
        if differing:
            warnings.append(
                f"{name}: heads that were fitted again for the folds answer otherwise than at the "
                f"fit for {differing:,} of {len(records[name].folded()):,} images"
            )
        judged_by[name] = _judged_by(fold_of, records[name])
        numbers = {fold: number for number, fold in enumerate(judges)}
        contestants.append(
            Fitted(
                name,
                encoders[name],
                model.views,
                _truth(prepared, model.classes),
                tuple(judges.values()),
                np.array([numbers[fold] for fold in fold_of], dtype=np.int64),
            )
        )
    left_out = int((~honest).sum()) if honest.any() else 0
    units = _labelled_units(prepared, chosen, (*strangers, *prepared.skipped), left_out)
    units = replace(units, warnings=(*units.warnings, *warnings))
    return _subjects(contestants, units, prepared.table.contents, caches, draw, judged_by=judged_by)


def _shared_classes(models: Mapping[str, ClassifierModel]) -> tuple[str, ...]:
    """Return the classes of the first model. ConfigError when another knows others."""
    first = next(iter(models.values()))
    for name, model in models.items():
        if sorted(map(spelling, model.classes)) != sorted(map(spelling, first.classes)):
            raise ConfigError(
                f"{name} knows the classes {', '.join(model.classes[:5])}, and the first model "
                f"{', '.join(first.classes[:5])}; compare models of the same classes"
            )
    return first.classes


def zeroshot_subjects(
    encoder: Encoder,
    labelled: LabelledImages,
    templates: Sequence[str],
    caches: Caches,
    draw: Draw,
) -> Subjects:
    """Put the names of classes to the test."""
    splits = LabelledSplits(labelled, np.full(len(labelled), "train"))
    chosen = splits.rows(stratified(labelled.labels, draw.images, draw.seed))
    draw.say("reading features")
    prepared = prepare(encoder, chosen, caches.whole, views=(PLAIN,))
    one = ZeroShot(
        encoder.name,
        encoder,
        Truth(prepared.classes, prepared.labels, prepared.group, prepared.table.contents),
        class_vectors(encoder, prepared.classes, templates),
    )
    units = _labelled_units(prepared, chosen, prepared.skipped, 0)
    said = {one.name: f"the names of the classes in {len(templates)} templates, untrained"}
    return _subjects([one], units, prepared.table.contents, caches, draw, judged_by=said)


def caption_subjects(
    encoder: Encoder, captions: CaptionSet, caches: Caches, draw: Draw
) -> Subjects:
    """Put sentences to the test that look for their images among the drawn ones."""
    every = captions.images
    rows = stratified(np.zeros(len(every), dtype=np.int64), draw.images, draw.seed).tolist()
    sources = [every[row].source for row in rows]
    draw.say("reading features")
    table = read_table(encoder, sources, caches.whole)
    if not len(table):
        raise DatasetError(
            f"none of {len(sources)} images of {captions.name} can be read; check the folder"
        )
    captions_of = {one.source.name: one.captions for one in every}
    source_of = {source.name: source for source in sources}
    texts = [text for name in table.names for text in captions_of[name]]
    counts = [len(captions_of[name]) for name in table.names]
    owner = np.repeat(np.arange(len(table)), counts)
    units = Units(
        data=captions.name,
        names=table.names,
        sources=tuple(source_of[name] for name in table.names),
        row_of=owner,
        group=owner,
        truth=tuple(texts),
        about=f" with {len(texts):,} captions, drawn from {len(every):,}",
        skipped=(*captions.skipped, *table.skipped),
    )
    one = Captions(encoder.name, encoder, encoder.encode_texts(texts), owner)
    said = {one.name: "captions, each looking for its image among these"}
    return _subjects([one], units, table.contents, caches, draw, judged_by=said)


def _subjects(
    contestants: Sequence[Contestant],
    units: Units,
    contents: Sequence[str],
    caches: Caches,
    draw: Draw,
    *,
    judged_by: Mapping[str, str],
) -> Subjects:
    pictures: dict[str, CorruptedImages] = {}
    for one in contestants:
        known = pictures.get(one.encoder.fingerprint)
        views = tuple(dict.fromkeys((*(known.views if known else ()), *one.views)))
        pictures[one.encoder.fingerprint] = CorruptedImages(
            one.encoder, units.sources, contents, caches.corrupted, views=views, seed=draw.seed
        )
    return Subjects(tuple(contestants), units, pictures, judged_by)


def _contents(sources: Sequence[ImageSource], cache: VectorCache) -> dict[str, str]:
    """Return the sha256 of each readable source, by its name."""
    found: dict[str, str] = {}
    for start in range(0, len(sources), _AT_ONCE):
        some = sources[start : start + _AT_ONCE]
        for source, content in zip(some, read_contents(some, cache), strict=True):
            if content:
                found[source.name] = content.digest.hex()
    return found


def _truth(prepared: Prepared, classes: tuple[str, ...]) -> Truth:
    """Give labels the numbers that a model gives them."""
    numbers = match_names(prepared.classes, classes)
    return Truth(classes, numbers[prepared.labels], prepared.group, prepared.table.contents)


def _labelled_units(
    prepared: Prepared, chosen: LabelledSplits, skipped: Iterable[Skipped], left_out: int
) -> Units:
    counts = Counter(prepared.classes[label] for label in prepared.labels.tolist())
    shares = ", ".join(f"{name} {count}" for name, count in counts.items())
    unseen = f"; {left_out:,} images that a model has learnt from are left out" if left_out else ""
    source_of = {source.name: source for source in chosen.labelled.sources}
    names = prepared.table.names
    return Units(
        data=prepared.name,
        names=names,
        sources=tuple(source_of[name] for name in names),
        row_of=np.arange(len(prepared)),
        group=prepared.group,
        truth=tuple(prepared.classes[label] for label in prepared.labels.tolist()),
        about=f" ({shares}{unseen})",
        skipped=tuple(skipped),
        warnings=prepared.warnings,
    )


def _judged_by(fold_of: Sequence[int], records: FitRecords) -> str:
    """Say in words who judges how many images."""
    known = {one.content: one.learnt_from for one in records.records}
    folds = sum(fold != ITSELF for fold in fold_of)
    if not folds:
        return (
            "the model as it is, on images that are not among those of its fit"
            if known
            else ("the model as it is")
        )
    cross_fitted = any(one.learnt_from for one in records.folded())
    who = (
        "heads fitted again without the fold of the image, as at the fit"
        if cross_fitted
        else "the model, which has not learnt from them, with rules fitted on the other folds"
    )
    rest = len(fold_of) - folds
    return f"{who}: {folds:,} images" + (f"; the model as it is: {rest:,}" if rest else "")
