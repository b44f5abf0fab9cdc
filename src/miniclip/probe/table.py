"""The feature table: a data set with everything that is known of its images, computed once.

Features come from the cache or from the encoder, which then fills the cache batch by batch: a run
that is killed loses one batch. Memory holds the rows and a few images. Nothing is learned here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.cpus import usable_cpus
from miniclip.embed import Embedded, Progress, Skipped, Stream, embed_stream
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource
from miniclip.index.contents import Content, is_unchanged, read_contents
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.facts import FACTS_VERSION, ImageFacts, facts_of, read_facts
from miniclip.views import PLAIN, View

LOOK_UP = 256  # images per question to the cache
CHANGED = "the file changed while it was read; run again when nothing writes to it"


@dataclass(frozen=True)
class FeatureTable:
    """N images that could be read, in the order of their sources, and what is known of them.

    names: of the sources. paths: of their files, the name where a source is bytes. contents: sha256
    of the bytes, 64 hex digits. features: (V, N, F) float32, one layer a view, the plain one first.
    embeddings: (N, D) float32 unit rows of the plain view. skipped: the images that could not be
    read, and why. computed: how many images were run through the model, counted once a view. parts:
    as `Encoder.feature_parts`; empty for all F from one layer.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    contents: tuple[str, ...]
    features: FloatArray = field(repr=False)
    embeddings: FloatArray = field(repr=False)
    facts: tuple[ImageFacts, ...] = field(repr=False)
    skipped: tuple[Skipped, ...] = ()
    computed: int = 0
    parts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(N,) perceptual hashes."""
        return np.array([facts.perceptual_hash for facts in self.facts], dtype=np.uint64)

    @property
    def pooled(self) -> FloatArray:
        """(N, F') of the plain view: the first part, whose cosine says how alike two images are."""
        features: FloatArray = self.first_part().features[0]
        return features

    def first_part(self) -> FeatureTable:
        """Return the table with the features of the last layer alone."""
        if len(self.parts) < 2:
            return self
        width = self.parts[0]
        return replace(self, features=self.features[..., :width], parts=(width,))

    def rows(self, index: IntArray) -> FeatureTable:
        """Return the table of some of the images: index (M,) integers, or (N,) bool."""
        chosen = np.arange(len(self))[index].tolist()
        return FeatureTable(
            names=tuple(self.names[row] for row in chosen),
            paths=tuple(self.paths[row] for row in chosen),
            contents=tuple(self.contents[row] for row in chosen),
            features=self.features[:, chosen],
            embeddings=self.embeddings[chosen],
            facts=tuple(self.facts[row] for row in chosen),
            skipped=self.skipped,
            computed=self.computed,
            parts=self.parts,
        )


def read_table(
    encoder: Encoder,
    sources: Sequence[ImageSource],
    cache: VectorCache,
    *,
    views: Sequence[View] = (PLAIN,),
    progress: Progress | None = None,
    stream: Stream = embed_stream,
) -> FeatureTable:
    """Return features, embeddings and facts of every image, from the cache where it holds them.

    views: the plain one first (see `views.named_views`). progress: called with the number of images
    done so far, up to len(sources) * len(views). An image that cannot be read is listed in
    `skipped`. stream: what runs the encoder. ConfigError when the first view is not plain, or for
    two images of one name; StoreError when the cache fails.
    """
    if not views or views[0] != PLAIN:
        raise ConfigError("the first view has to be the plain one; make views with named_views()")
    _refuse_equal_names(sources)
    filling = _Filling(
        encoder, sources, cache, len(views), progress or (lambda _done: None), stream=stream
    )
    for layer, view in enumerate(views):
        filling.run(layer, view)
    return filling.table()


class _Filling:
    """The table while it fills: row i belongs to source i; rows of equal content fill together."""

    def __init__(
        self,
        encoder: Encoder,
        sources: Sequence[ImageSource],
        cache: VectorCache,
        views: int,
        progress: Progress,
        *,
        stream: Stream,
    ) -> None:
        count = len(sources)
        self._features = np.zeros((views, count, encoder.feature_dim), dtype=np.float32)
        self._embeddings = np.zeros((count, encoder.embedding_dim), dtype=np.float32)
        self._facts: list[ImageFacts | None] = [None] * count
        self._contents: list[Content | None] = []
        self._reasons: dict[int, str] = {}
        self._encoder = encoder
        self._sources = sources
        self._cache = cache
        self._progress = progress
        self._stream = stream
        self._done = 0
        self._computed = 0
        self._key_of: dict[str, bytes] = {}  # name of a source on its way -> the key of its rows
        self._rows_of: dict[bytes, list[int]] = {}  # key -> the rows that it will fill

    def run(self, layer: int, view: View) -> None:
        """Fill one view; with the plain one, which comes first, all the rest."""
        missing = self._missing(layer, view)
        look = None if layer else facts_of
        with closing(self._stream(self._encoder, missing, view=view, look=look)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Skipped):
                    for row in self._arrived(outcome.name):
                        self._reasons[row] = outcome.reason
                else:
                    self._fill(layer, view, outcome)
        if layer == 0:
            self._read_missing_facts()

    def table(self) -> FeatureTable:
        """Return the rows that are whole."""
        good = [row for row in range(len(self._sources)) if row not in self._reasons]
        whole = slice(None) if len(good) == len(self._sources) else good
        return FeatureTable(
            names=tuple(self._sources[row].name for row in good),
            paths=tuple(_path(self._sources[row]) for row in good),
            contents=tuple(found.digest.hex() for row in good if (found := self._contents[row])),
            features=self._features[:, whole],
            embeddings=self._embeddings[whole],
            facts=tuple(facts for row in good if (facts := self._facts[row])),
            skipped=tuple(
                Skipped(self._sources[row].name, reason)
                for row, reason in sorted(self._reasons.items())
            ),
            computed=self._computed,
            parts=self._encoder.feature_parts,
        )

    def _missing(self, layer: int, view: View) -> Iterator[ImageSource]:
        """Fill what the cache holds and yield one source for every content that it does not."""
        model = self._encoder.fingerprint
        for start in range(0, len(self._sources), LOOK_UP):
            sources = self._sources[start : start + LOOK_UP]
            if layer == 0:
                self._contents += read_contents(sources, self._cache)
            contents = self._contents[start : start + LOOK_UP]
            digests = {found.digest for found in contents if found}
            features = self._cache.load_features(model, view.name, digests)
            embeddings = self._cache.load(model, digests) if layer == 0 else {}
            facts = self._cache.load_facts(FACTS_VERSION, digests) if layer == 0 else {}
            fresh: list[ImageSource] = []
            settled = 0
            for row, (source, content) in enumerate(zip(sources, contents, strict=True), start):
                # What cannot be read is left to the decoder, which says why.
                key = content.digest if content else os.fsencode(source.name)
                if key in facts:
                    self._facts[row] = ImageFacts.from_json(facts[key])
                if key in features and (layer or key in embeddings):
                    self._features[layer, row] = features[key]
                    if layer == 0:
                        self._embeddings[row] = embeddings[key]
                elif row not in self._reasons:
                    if key not in self._rows_of:
                        self._key_of[source.name] = key
                        fresh.append(source)
                    self._rows_of.setdefault(key, []).append(row)
                    continue
                settled += 1
            self._count(settled)
            yield from fresh

    def _fill(self, layer: int, view: View, batch: Embedded) -> None:
        """Take one batch and cache what belongs to files that are still as they were hashed."""
        model = self._encoder.fingerprint
        kept: dict[bytes, int] = {}  # digest -> place in the batch
        facts: dict[bytes, str] = {}
        for place, source in enumerate(batch.sources):
            rows = self._arrived(source.name)
            content = self._contents[rows[0]]
            seen = batch.seen[place]
            for row in rows:
                self._features[layer, row] = batch.features[place]
                if layer == 0:
                    self._embeddings[row] = batch.embeddings[place]
                    self._facts[row] = seen
            if content is None or not is_unchanged(source, content):
                self._reasons |= dict.fromkeys(rows, CHANGED)
                continue
            kept[content.digest] = place
            if seen:
                facts[content.digest] = seen.to_json()
        self._computed += len(batch.sources)
        if layer == 0:
            embeddings = {digest: batch.embeddings[place] for digest, place in kept.items()}
            self._cache.store(model, embeddings)
            self._cache.store_facts(FACTS_VERSION, facts)
        # Last, so that whoever finds features finds the rest too.
        features = {digest: batch.features[place] for digest, place in kept.items()}
        self._cache.store_features(model, view.name, features)

    def _read_missing_facts(self) -> None:
        """Gather the facts of images whose features another run has cached."""
        rows = [
            row
            for row, facts in enumerate(self._facts)
            if facts is None and row not in self._reasons
        ]
        if not rows:
            return
        with ThreadPoolExecutor(usable_cpus()) as pool:
            for start in range(0, len(rows), LOOK_UP):
                some = rows[start : start + LOOK_UP]
                fresh: dict[bytes, str] = {}
                for row, facts in zip(some, pool.map(self._facts_or_reason, some), strict=True):
                    content = self._contents[row]
                    if isinstance(facts, str):
                        self._reasons[row] = facts
                    elif content and is_unchanged(self._sources[row], content):
                        self._facts[row] = facts
                        fresh[content.digest] = facts.to_json()
                    else:
                        self._reasons[row] = CHANGED
                self._cache.store_facts(FACTS_VERSION, fresh)

    def _facts_or_reason(self, row: int) -> ImageFacts | str:
        source = self._sources[row]
        try:
            return read_facts(source)
        except ImageError as error:
            return str(error).removeprefix(f"{source.name}: ")

    def _arrived(self, name: str) -> list[int]:
        rows = self._rows_of.pop(self._key_of.pop(name))
        self._count(len(rows))
        return rows

    def _count(self, images: int) -> None:
        self._done += images
        self._progress(self._done)


def _path(source: ImageSource) -> Path:
    return source.path or Path(source.name)


def _refuse_equal_names(sources: Sequence[ImageSource]) -> None:
    """Refuse two images of one name: results are told by name. One image given twice is fine."""
    known: dict[str, ImageSource] = {}
    for source in sources:
        if known.setdefault(source.name, source) != source:
            raise ConfigError(f"two images are called {source.name}; give each its own name")
