"""`Index`: a collection of photos that can be searched, and brought in step with its folders.

It joins the parts of `miniclip.index` and decides nothing that they could; the default model is
loaded here when one is needed and none was given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Self

from miniclip.arrays import FloatArray
from miniclip.embed import Stream, embed_stream
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError, StoreError
from miniclip.index.address import Address, absolute, is_index, parse_address
from miniclip.index.ask import By, Found, Question, ask
from miniclip.index.attic import Attic
from miniclip.index.captioning import attach, captions_below, embed_captions
from miniclip.index.failures import Failures
from miniclip.index.location import ROOTS, Location, outermost
from miniclip.index.parts import Parts
from miniclip.index.query import Query, parse_query
from miniclip.index.reading import sources_of
from miniclip.index.relevance import Relevance
from miniclip.index.scratch import scratch
from miniclip.index.search import Hit, image_query
from miniclip.index.store import Filter, ImageRecord, Model, Place, ScoredText, Store
from miniclip.index.sync import Progress, SyncResult, sync
from miniclip.index.vector_cache import VectorCache
from miniclip.runtimes import load_encoder

Folders = Path | str | Sequence[Path | str]


class Index:
    """A searchable collection. Use as a context manager; every method is safe for threads.

    address: where the index lies. roots: the folders it follows.
    """

    def __init__(self, location: Location, roots: Sequence[Path], encoder: Encoder | None) -> None:
        self.location = location
        self._roots = list(roots)
        self._encoder = encoder
        self._store: Store | None = None
        self._has_model = False
        self._lock = RLock()

    @classmethod
    def open(
        cls,
        folders: Folders,
        encoder: Encoder | None = None,
        *,
        directory: Path | str | None = None,
        store: Address | str | None = None,
    ) -> Self:
        """Open the index of one or more folders (or image files, tars, Parquet tables).

        folders: may also be the directory of an index; then the folders are those it knows, as when
        none are given beside `directory`. encoder: default: the default model, loaded when first
        needed. directory: where the index is to lie; default: `.miniclip` in the folder if it is
        one and may be written to, else in the user's data directory. store: instead of a directory,
        any address that `parse_address` knows, such as "milvus:http://localhost:19530". An index
        that does not exist is made by `sync`. ConfigError without a folder, or for an address that
        cannot be.
        """
        named = [folders] if isinstance(folders, Path | str) else list(folders)
        roots = [Path(folder) for folder in named]
        if store is not None:
            address = parse_address(store) if isinstance(store, str) else store
            return cls(Location.of_store(address), outermost(roots), encoder)
        if directory is None and len(roots) == 1 and is_index(roots[0]):
            directory, roots = roots[0], []
        location = Location.at(Path(directory)) if directory is not None else Location.of(roots)
        return cls(location, outermost(roots), encoder)

    @property
    def address(self) -> Address:
        """Where the index lies."""
        return self.location.address

    @property
    def directory(self) -> Path:
        """The directory where the index lies; StoreError when it lies in none."""
        return self.location.directory

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that it follows: those it knows and those it was opened with."""
        known = self._known_roots(self._reader().settings()) if self.location.exists else []
        return tuple(outermost([*known, *self._roots]))

    @property
    def encoder(self) -> Encoder:
        """The model whose vectors are searched; loaded on first use."""
        with self._lock:
            if self._encoder is None:
                self._encoder = load_encoder()
            return self._encoder

    @property
    def store(self) -> Store:
        """The open store, to read, with the encoder's model in use.

        StoreError when there is no index yet, it is damaged, or has no vectors of this model.
        """
        with self._lock:
            store = self._reader()
            if not self._has_model:
                store.use_model(_model(self.encoder))
                self._has_model = True
            return store

    def sync(
        self,
        *,
        captions: Path | str | None = None,
        ignore: Sequence[str] = (),
        prune: bool = False,
        rebuild: bool = False,
        places: bool = False,
        progress: Progress | None = None,
        stream: Stream = embed_stream,
    ) -> SyncResult:
        """Bring the index in step with its folders; only content that is new to it is embedded.

        captions: a file of captions (see `read_captions`) to attach to the images. ignore: patterns
        of files to leave out, as in .gitignore, besides those in the file .miniclipignore of each
        folder. prune: forget for good what vanished, even a whole folder; without it, vectors of
        vanished images wait for their return, and a folder that is missing or empty is an error.
        rebuild: begin anew, however damaged the index is. places: keep the GPS position of what is
        new or changed; without it the index knows of none. progress: called with what is done
        ("images", "captions"), how many and of how many. stream: what runs the encoder on images,
        such as that of a `RayCluster`.

        A kill at any moment costs at most the batch in hand. Raises DatasetError for such a folder
        and for unusable captions, StoreError when another process writes, ConfigError for patterns.
        """
        if not self.location.exists:
            self._refuse_typing_errors()
        with ExitStack() as stack:
            if rebuild:
                self._roots = self._roots or self._recover_roots()
            store = stack.enter_context(closing(self.address.open(write=True, rebuild=rebuild)))
            if rebuild and self.address.attic.exists:
                self.address.attic.open(write=True, rebuild=True).close()
            store.use_model(_model(self.encoder))
            roots = self._sync_roots(store)
            db = stack.enter_context(scratch())
            attic = Attic(self._open_attic, db)
            stack.callback(attic.close)
            cache = None
            with suppress(StoreError):  # without a cache there is only more to do
                cache = stack.enter_context(VectorCache.open())
            failures = Failures.of(store)
            parts = Parts(store, attic, db, self.encoder, self.location, failures, cache, places)
            result = sync(
                parts, roots, patterns=ignore, prune=prune, progress=progress, stream=stream
            )
            if captions is not None:
                found = captions_below(Path(captions), roots)
                _, missing = attach(store, self.location, found)
                result = replace(result, skipped=(*result.skipped, *found.skipped, *missing))
            report = progress or (lambda _what, _done, _total: None)
            texts = embed_captions(
                store, self.encoder, lambda done, total: report("captions", done, total)
            )
            if result.embedded or result.deleted or texts:
                store.optimise()
            if prune:
                self._forget_missing_roots(store)
        return replace(result, captions=texts)

    def search(
        self,
        query: str | Path | Query | FloatArray,
        *,
        top: int = 12,
        skip: int = 0,
        where: str | Filter | None = None,
        by: By = "vectors",
        min_confidence: float = 0.0,
        near_duplicates: bool = False,
    ) -> list[Hit]:
        """Return the images that fit best, best first.

        query: a sentence (its language: `miniclip.index.query`), the path of an example image, a
        Query of several, or a vector (D,) float32 of unit length. skip: hits to pass over. where: a
        condition such as "taken >= 2024". by: what ranks: vectors, the text of captions and names,
        or both. min_confidence: 0..1, below which an image is no match; sentences only.
        near_duplicates: fold copies into the best of them. Raises ConfigError for what cannot be
        understood, ImageError for an unreadable example, StoreError when there is no index.
        """
        store = self.store
        if isinstance(query, str):
            query = parse_query(query)
        options: dict[str, Any] = {
            "by": by,
            "top": top,
            "skip": skip,
            "where": _condition(where) if isinstance(where, str) else where,
            "min_confidence": min_confidence,
            "near_duplicates": near_duplicates,
        }
        if isinstance(query, Query):
            question = Question.of(self.encoder, query, **options)
        else:
            vector = image_query(self.encoder, query) if isinstance(query, Path) else query
            question = Question(vector=vector, **options)
        judged = min_confidence and question.wanted is not None
        answer = ask(
            store,
            question,
            Relevance.of(self.encoder) if judged else None,
            sources_of=lambda images: sources_of(self.location, images),
        )
        return [self._hit(found) for found in answer.hits]

    def match(self, image: Path | str, *, top: int = 5) -> list[ScoredText]:
        """Return the captions of the index that fit an image best, with their cosines."""
        return self.store.nearest_texts(image_query(self.encoder, Path(image)), top=top)

    def __iter__(self) -> Iterator[ImageRecord]:
        """Iterate over the images by id, with absolute paths; needs no model."""
        store = self._reader()
        ids = store.ids().tolist()
        for start in range(0, len(ids), 1024):
            for image in store.records(ids[start : start + 1024]):
                yield replace(image, path=os.fspath(self.location.path(image.place)))

    def __len__(self) -> int:
        return self._reader().count() if self.location.exists else 0

    def _hit(self, found: Found) -> Hit:
        return Hit(
            self.location.path(found.record.place),
            found.cosine,
            member=found.record.member,
            confidence=found.confidence,
            alike=tuple(self.location.path(twin.place) for twin in found.alike),
        )

    def close(self) -> None:
        """Let go of the files; the next use opens them again."""
        with self._lock:
            if self._store:
                self._store.close()
                self._store, self._has_model = None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _reader(self) -> Store:
        with self._lock:
            if self._store is None:
                if not self.location.exists:
                    raise StoreError(
                        f"there is no index in {self.address}; make one with: miniclip index "
                        + (" ".join(map(str, self._roots)) or "FOLDER")
                    )
                self._store = self.address.open()
            return self._store

    def _refuse_typing_errors(self) -> None:
        """Refuse folders that are not there before an index is made for them."""
        for root in self._roots:
            if not os.path.lexists(root):
                raise DatasetError(
                    f"there is no file or folder {root}; check the path and its permissions"
                )

    def _sync_roots(self, store: Store) -> list[Path]:
        """Remember the folders that the index was opened with; return those to bring in step."""
        known = self._known_roots(store.settings())
        both = outermost([*known, *self._roots])
        if both != known:
            names = [self.location.place(root).path for root in both]
            store.remember({ROOTS: json.dumps(names)})
        return self._roots or both

    def _forget_missing_roots(self, store: Store) -> None:
        names = json.loads(store.settings().get(ROOTS, "[]"))
        there = [name for name in names if os.path.lexists(self.location.path(Place(name)))]
        if there != names:
            store.remember({ROOTS: json.dumps(there)})

    def _recover_roots(self) -> list[Path]:
        """Read the folders of an index that is to be thrown away, if it can still be read."""
        with suppress(StoreError):
            return list(self.roots)
        return []

    def _known_roots(self, settings: Mapping[str, str]) -> list[Path]:
        names = json.loads(settings.get(ROOTS, "[]"))
        return [absolute(self.location.path(Place(name))) for name in names]

    def _open_attic(self, create: bool) -> Store | None:
        attic = self.address.attic
        if not create and not attic.exists:
            return None
        store = attic.open(write=True)
        try:
            store.use_model(_model(self.encoder))
        except BaseException:
            store.close()
            raise
        return store


def _condition(text: str) -> Filter:
    from miniclip.index.where import parse_where  # noqa: PLC0415 - its grammar costs 0.1 s

    return parse_where(text)


def _model(encoder: Encoder) -> Model:
    return Model(encoder.fingerprint, encoder.name, encoder.embedding_dim)
