"""`Teaching`: a lesson to a fitted classifier, one at a time, by the library's own fit.

Uploads are decoded by the processes of the service. Their vectors and facts go into a cache of
their own, where the fit finds all that it would ask a decoder for; it never opens a picture here.
"""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.datasets.folders import LabelledImages
from miniclip.datasets.labelled_splits import LabelledSplits
from miniclip.embed import Skipped
from miniclip.errors import DatasetError, ImageError
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.facts import FACTS_VERSION
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.serve.failures import BusyError
from miniclip.serve.lesson import Example, Lesson
from miniclip.serve.seeing import InMemory, Seen
from miniclip.serve.service import Service
from miniclip.views import PLAIN

NAME = "lesson"  # what the data set is called in the model
_AGAIN = 30  # seconds after which somebody may ask once more
_TOGETHER = 16  # photos in memory
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say: equal models give equal zips


@dataclass(frozen=True)
class _Looked:
    """A photo that can be learnt from, its bytes in a file of the lesson."""

    example: Example
    source: ImageSource
    seen: Seen
    facts: str


News = str | Fitted
Tell = Callable[[News | Exception], None]
_Outcome = _Looked | Skipped


class Teaching:
    """Fits for whoever asks; one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._room = threading.Lock()  # left by the thread of the fit, whoever waits for it

    async def teach(
        self, lesson: Lesson, settings: FitSettings | None = None
    ) -> AsyncGenerator[News]:
        """Yield what is done next, in words, and at last the classifier.

        Photos without a class are left out. BusyError while another lesson is taught, DatasetError
        for one that nothing can be learnt from. The views of the settings are plain. Who stops
        listening stops it, but for a fit that has begun.
        """
        if len(lesson.classes) < 2:
            raise DatasetError("a classifier needs photos of at least two classes; add some")
        news: asyncio.Queue[News | Exception] = asyncio.Queue()
        tell = news.put_nowait
        work = asyncio.create_task(self._teach(lesson, settings or FitSettings(), tell))
        try:
            while True:
                what = await news.get()
                if isinstance(what, Exception):
                    raise what
                yield what
                if isinstance(what, Fitted):
                    return
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def _teach(self, lesson: Lesson, settings: FitSettings, tell: Tell) -> None:
        """Look at all photos, and leave the rest to a thread."""
        if not self._room.acquire(blocking=False):
            tell(BusyError(_AGAIN))
            return
        folder = TemporaryDirectory(prefix="miniclip-lesson-", ignore_cleanup_errors=True)
        try:
            outcomes = await self._look_at_all(lesson, Path(folder.name), tell)
        except BaseException as error:
            self._end(folder)
            if not isinstance(error, Exception):
                raise
            tell(error)
            return
        loop = asyncio.get_running_loop()

        def tell_safely(what: News | Exception) -> None:
            with suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(tell, what)

        # A daemon: a server that is told to stop does not wait for a fit.
        fit = partial(self._fit, folder, outcomes, settings, tell_safely)
        threading.Thread(target=fit, name="miniclip-teach", daemon=True).start()

    async def _look_at_all(self, lesson: Lesson, folder: Path, tell: Tell) -> list[_Outcome]:
        examples = [one for one in lesson.examples if one.label]
        outcomes: list[_Outcome] = []
        for start in range(0, len(examples), _TOGETHER):
            tell(f"looked at {start} of {len(examples)} photos")
            some = examples[start : start + _TOGETHER]
            outcomes += await self._look(some, folder, start)
        return outcomes

    async def _look(self, examples: Sequence[Example], folder: Path, first: int) -> list[_Outcome]:
        """Read and see some photos; first: the number of the first file that may be written."""
        outcomes: list[_Outcome] = []
        readable: list[tuple[Example, bytes]] = []
        for example in examples:
            try:
                readable.append((example, await asyncio.to_thread(example.read)))
            except ImageError as error:
                outcomes.append(Skipped(example.name, str(error)))
        place = 0
        async for seen in self._service.sight.see([InMemory(data) for _, data in readable]):
            example, data = readable[place]
            place += 1
            try:
                if isinstance(seen, ImageError):
                    raise seen
                facts = await self._service.decoders.facts(data)
            except ImageError as error:
                outcomes.append(Skipped(example.name, str(error)))
                continue
            path = folder / str(first + place)
            await asyncio.to_thread(path.write_bytes, data)
            outcomes.append(_Looked(example, ImageSource(example.name, path), seen, facts))
        return outcomes

    def _fit(
        self,
        folder: TemporaryDirectory[str],
        outcomes: Sequence[_Outcome],
        settings: FitSettings,
        tell: Tell,
    ) -> None:
        """Fit, end the lesson, and tell what came of it."""
        outcome: Fitted | Exception
        skipped = [one for one in outcomes if isinstance(one, Skipped)]
        looked = [one for one in outcomes if isinstance(one, _Looked)]
        looked.sort(key=lambda one: one.example.name)  # as a folder would be read
        try:
            with VectorCache.open(Path(folder.name) / "cache.sqlite3") as cache:
                self._fill(cache, looked)
                splits = _splits(looked, skipped)
                outcome = fit_classifier(self._service.encoder, splits, cache, settings, step=tell)
        except Exception as error:  # it is raised where somebody waits for it
            outcome = error
        finally:
            self._end(folder)
        tell(outcome)

    def _fill(self, cache: VectorCache, looked: Sequence[_Looked]) -> None:
        """Put all that a fit would compute into its cache."""
        model = self._service.encoder.fingerprint
        content = [bytes.fromhex(one.seen.content) for one in looked]

        def rows(values: Sequence[FloatArray]) -> dict[bytes, FloatArray]:
            return dict(zip(content, values, strict=True))

        cache.store(model, rows([one.seen.embeddings[0] for one in looked]))
        cache.store_features(model, PLAIN.name, rows([one.seen.features[0] for one in looked]))
        facts = [one.facts for one in looked]
        cache.store_facts(FACTS_VERSION, dict(zip(content, facts, strict=True)))

    def _end(self, folder: TemporaryDirectory[str]) -> None:
        folder.cleanup()
        self._room.release()


def zipped(files: Mapping[str, bytes], folder: str) -> bytes:
    """Return a zip of one folder with files in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", _DATE), content)
    return out.getvalue()


def _splits(looked: Sequence[_Looked], skipped: Sequence[Skipped]) -> LabelledSplits:
    """Return the photos as a labelled data set; DatasetError when none can be read."""
    if not looked:
        raise DatasetError(
            f"no photo can be read; the first, {skipped[0].name}: {skipped[0].reason}"
        )
    classes = tuple(sorted({one.example.label for one in looked}))
    labels = [classes.index(one.example.label) for one in looked]
    images = LabelledImages(
        name=NAME,
        sources=tuple(one.source for one in looked),
        labels=np.array(labels, dtype=np.int64),
        classes=classes,
        skipped=tuple(skipped),
    )
    return LabelledSplits(images, np.array([one.example.part for one in looked]))
