"""`Service`: all that the server can do, for the API and for pages, without a word about HTTP.

It receives its parts and builds none. Its methods are coroutines of one event loop; what takes long
runs in threads and processes. Images come as whatever can be `read()`, and are read when their turn
has come, so that memory holds a bounded number of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.collection import Index
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ConfigError
from miniclip.index.ask import Answer, Question, ask
from miniclip.index.query import Query
from miniclip.index.reading import sources_of
from miniclip.index.relevance import Relevance
from miniclip.index.store import ScoredText
from miniclip.index.where import parse_where
from miniclip.probe.model import ClassifierModel
from miniclip.probe.predict import Prediction, Predictor
from miniclip.probe.table import FeatureTable
from miniclip.prompts import DEFAULT_TEMPLATES, check_labels, check_templates
from miniclip.serve.asking import Search, combined, examples_of
from miniclip.serve.batched_encoder import BatchedEncoder
from miniclip.serve.decoding import Decoders
from miniclip.serve.failures import BusyError, GoneError, LimitError, MissingError
from miniclip.serve.seeing import Seen, Sight, Upload
from miniclip.serve.settings import Settings
from miniclip.serve.turns import Turns
from miniclip.zeroshot import class_vectors, probabilities

if TYPE_CHECKING:
    from miniclip.explain.explanation import Explanation
    from miniclip.explain.question import Question as Asked

T = TypeVar("T")

_THREADS = 8
_EXPLAINING = 1  # pictures at a time: each asks the model some hundred times
_CLASSES = 64  # label lists whose vectors are remembered
_THUMBNAILS = 512  # of some 15 kB each


class Explained(NamedTuple):
    """A picture, what was asked about it, and the map; the picture may be smaller than its file."""

    picture: Image.Image
    question: Asked
    found: Explanation

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip explain --json` says of it."""
        return {**self.question.to_dict(), **self.found.to_dict()}


class Service:
    """One encoder, perhaps an index, and classifiers by name; `start` before and `close` after use.

    encoder: shared with whoever runs in a thread, such as a page that fits a head.
    """

    def __init__(
        self,
        encoder: Encoder,
        index: Index | None = None,
        models: Mapping[str, ClassifierModel] | None = None,
        settings: Settings | None = None,
        *,
        watch_batch: Callable[[str, int], Any] = lambda _tower, _size: None,
        card: str = "",
        licence: str = "",
    ) -> None:
        """BundleError when a model was fitted on another encoder. card, licence: of the bundle."""
        self.settings = settings or Settings()
        self.card, self.licence = card, licence
        self.index = index
        self.models = {name: Predictor(model) for name, model in (models or {}).items()}
        for predictor in self.models.values():
            predictor.model.check_encoder(encoder.name, encoder.fingerprint)
        self._inner = encoder
        self.encoder = BatchedEncoder(
            encoder,
            max_batch=self.settings.max_batch,
            queue=self.settings.queue,
            batching=self.settings.batching,
            watch=watch_batch,
        )
        self.decoders = Decoders(encoder.image_spec, self.settings)
        self.sight = Sight(self.encoder, self.decoders, self.settings)
        self.texts = True
        self.ready = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="miniclip-serve")
        self._turns = Turns(self.settings.searches, self.settings.wait_seconds)
        self._explaining = asyncio.Semaphore(_EXPLAINING)
        self._relevance: Relevance | None = None
        self._classes: OrderedDict[tuple[tuple[str, ...], ...], FloatArray] = OrderedDict()
        self._thumbnails: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    async def start(self) -> None:
        """Load what the first request would wait for."""
        await self.decoders.start()
        await self._in_thread(self._warm_up)
        self.ready = True

    async def close(self) -> None:
        """Stop all threads and processes."""
        self.ready = False
        await self.decoders.close()
        await asyncio.to_thread(self.encoder.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # Vectors

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """(N, D) float32 unit rows, in order."""
        self._check_texts(texts)
        rows = await asyncio.wrap_future(self.encoder.texts.submit(list(texts)))
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.encoder.embedding_dim)

    # Questions

    async def search(self, search: Search) -> Answer:
        """Return the images of the index that fit; MissingError without an index.

        BusyError when too many search with words alone; images have a queue of their own.
        """
        if search.images:
            return await self._search(search)
        async with self._turns.turn():
            return await self._search(search)

    async def _search(self, search: Search) -> Answer:
        index, query = self._index(), search.query
        seen = [(await self.sight.see_one(image)).embeddings[0] for image in search.images]
        examples = [*seen, *await self._like(search.like)]
        vectors: dict[str | Path, FloatArray]
        vectors = dict(zip(examples_of(query), examples, strict=True))
        sentences = [term.what for term in query.terms if isinstance(term.what, str)]
        vectors |= dict(zip(sentences, await self.embed_texts(sentences), strict=True))
        wanted = [term for term in query.terms if isinstance(term.what, str) and term.weight > 0]
        question = Question(
            vector=combined(query, vectors),
            wanted=combined(Query(tuple(wanted)), vectors) if wanted else None,
            words=" ".join(query.wanted),
            by=search.by,
            top=search.top,
            skip=(search.page - 1) * search.top,
            where=await self._in_thread(parse_where, search.where) if search.where else None,
            exclude=tuple(search.like),
            min_confidence=search.cut,
            near_duplicates=search.near_duplicates,
        )
        return await self._in_thread(
            ask,
            index.store,
            question,
            self._relevance if wanted else None,
            sources_of=partial(sources_of, index.location),
        )

    async def match(
        self, image: Upload, texts: Sequence[str] = (), top: int = 5
    ) -> list[ScoredText]:
        """Return the texts that fit an image best; without texts, captions of the index."""
        (vector,) = (await self.sight.see_one(image)).embeddings
        if not texts:
            return await self._in_thread(self._index().store.nearest_texts, vector, top=top)
        cosines = await self.embed_texts(texts) @ vector
        best = np.argsort(-cosines, kind="stable")[:top]
        return [ScoredText(texts[row], float(cosines[row])) for row in best]

    async def zero_shot(
        self, labels: Sequence[str], templates: Sequence[str] = ()
    ) -> Callable[[Seen], list[tuple[str, float]]]:
        """Return what names an image: labels with their probabilities, the likeliest first."""
        names = check_labels(labels)
        sentences = check_templates(templates or DEFAULT_TEMPLATES)
        self._check_texts([*names, *sentences])
        if len(names) * len(sentences) > self.settings.max_prompts:
            raise LimitError(
                f"{len(names)} labels in {len(sentences)} templates are more than "
                f"{self.settings.max_prompts} sentences; give fewer of either"
            )
        key = (names, sentences)
        if key not in self._classes:
            self._classes[key] = await self._in_thread(
                class_vectors, self.encoder, names, sentences
            )
            _forget(self._classes, _CLASSES)
        classes = self._classes[key]

        def name(seen: Seen) -> list[tuple[str, float]]:
            (shares,) = probabilities(self.encoder, seen.embeddings[:1], classes)
            pairs = zip(names, map(float, shares), strict=True)
            return sorted(pairs, key=lambda pair: -pair[1])

        return name

    def model(self, name: str) -> Predictor:
        """Return a classifier; MissingError when there is none of this name."""
        if name not in self.models:
            known = f"choose one of {', '.join(self.models)}" if self.models else "it has none"
            raise MissingError(f"the server has no classifier {name!r}; {known}")
        return self.models[name]

    async def predict(self, predictor: Predictor, seen: Seen) -> Prediction:
        """Return what a classifier says of an image seen through its views."""
        table = FeatureTable(
            names=("image",),
            paths=(Path("image"),),
            contents=(seen.content,),
            features=seen.features[:, None],
            embeddings=seen.embeddings[:1],
            facts=(),
            parts=self.encoder.feature_parts,
        )
        (said,) = await self._in_thread(predictor.predict, table)
        return said

    async def explain(
        self,
        image: Upload,
        *,
        text: str | None = None,
        model: str | None = None,
        label: str | None = None,
        method: str = "both",
    ) -> Explained:
        """Return what drives the score of a text, or of a class of a classifier.

        BusyError while another one is drawn. Who stops waiting stops it before its next batch.
        """
        if (text is None) == (model is None):
            raise ConfigError("give either a text or a model to explain")
        if text is not None:
            self._check_texts([text])
        predictor = self.model(model) if model is not None else None
        if self._explaining.locked():
            raise BusyError(5)
        async with self._explaining:
            picture = await self.decoders.picture(await image.read())
            gone = threading.Event()
            explain = partial(self._explain, gone, picture, text, predictor, label, method=method)
            work = asyncio.ensure_future(self._in_thread(explain))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                gone.set()  # the place is free when the thread has left it
                await asyncio.gather(work, return_exceptions=True)
                raise

    async def image(self, number: int, side: int) -> tuple[bytes, str]:
        """Return an image of the index as a JPEG with no side above `side`, and its sha256."""
        store = self._index().store
        records = await self._in_thread(store.records, [number]) if number < 1 << 63 else []
        if not records:
            raise MissingError(f"the index has no image {number}")
        (record,) = records
        key = (record.content, side)
        if key not in self._thumbnails:
            (source,) = await self._in_thread(sources_of, self._index().location, records)
            self._thumbnails[key] = await self.decoders.thumbnail(source, side)
            _forget(self._thumbnails, _THUMBNAILS)
        return self._thumbnails[key], record.content.hex()

    async def count(self) -> int | None:
        """Return how many images the index has; None without an index."""
        return await self._in_thread(self.index.store.count) if self.index else None

    # Parts

    def _explain(
        self,
        gone: threading.Event,
        picture: Image.Image,
        text: str | None,
        predictor: Predictor | None,
        label: str | None,
        *,
        method: str,
    ) -> Explained:
        from miniclip.explain.explanation import explain, find_method  # noqa: PLC0415 - seldom
        from miniclip.explain.question import ask_class, ask_text  # noqa: PLC0415

        def check() -> None:
            if gone.is_set():
                raise GoneError

        find_method(method)
        if predictor:
            question = ask_class(self.encoder, picture, predictor.model, label)
        else:
            question = ask_text(self.encoder, picture, text or "")
        found = explain(self.encoder, picture, question.score, method=method, check=check)
        return Explained(picture, question, found)

    async def _like(self, ids: Sequence[int]) -> list[FloatArray]:
        """Return the vectors of images of the index, in order."""
        if not ids:
            return []
        known = [number for number in ids if 0 < number < 1 << 63]
        records, rows = await self._in_thread(self._index().store.embedded, known)
        found = {record.id: row for record, row in zip(records, rows, strict=True)}
        for number in ids:
            if number not in found:
                raise MissingError(f"the index has no image {number}")
        return [found[number] for number in ids]

    def _index(self) -> Index:
        if self.index is None:
            raise MissingError("the server has no index; start it with --index DIR")
        return self.index

    def _check_texts(self, texts: Sequence[str]) -> None:
        settings = self.settings
        if len(texts) > settings.max_texts:
            raise LimitError(
                f"{len(texts)} texts are too many; send at most {settings.max_texts} at once"
            )
        longest = max(map(len, texts), default=0)
        if longest > settings.max_letters:
            raise LimitError(
                f"a text of {longest} letters is too long; send at most {settings.max_letters}"
            )
        if texts and not self.texts:
            raise ConfigError(f"{self.encoder.name} takes images alone; serve another bundle")

    def _warm_up(self) -> None:
        self.encoder.encode_pixels(np.zeros((1, *self.encoder.image_spec.shape), dtype=np.float32))
        try:
            self.encoder.encode_texts(["a photo"])
        except BundleError:
            self.texts = False
        if self.index is not None:
            self.index.store.count()  # an index that cannot be used is no server's secret
            if self.texts:
                self._relevance = Relevance.of(self._inner)

    async def _in_thread(self, work: Callable[..., T], *values: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *values, **named))


def _forget(kept: OrderedDict[Any, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
