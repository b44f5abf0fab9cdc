"""What the fixed part of an image tower makes of every view of every image, computed once.

One memory-mapped float16 matrix a view, in a directory named by all that its rows depend on:
weights, preprocessing, views, images. A killed run goes on where it stopped, more views are added
to those there are, and a second process waits for the first. It runs no model itself: that comes in
as a function (see `trunk_runner`).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.atomic import replacing
from miniclip.embed import Skipped
from miniclip.errors import DatasetError, ImageError, StoreError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.train.data.augment import fixed_view
from miniclip.train.recipe import Views

Half = NDArray[np.float16]
Run = Callable[[FloatArray], Half]  # pixels (B, 3, S, S) to rows (B, ...)
Progress = Callable[[int], None]  # called with the number of images done

ROWS_AT_ONCE = 32  # images times views that the model gets together
_SAVE_EVERY = 512  # images


@dataclass(frozen=True)
class Request:
    """What is to be computed. weights: hex digest of whatever `Run` depends on."""

    sources: Sequence[ImageSource]
    spec: ImageSpec
    views: Views
    seed: int
    weights: str

    @property
    def key(self) -> str:
        """Hex digest of all but the number of views."""
        views = {name: value for name, value in asdict(self.views).items() if name != "count"}
        if self.views.count == 1:
            views = {}  # the plain image does not depend on them
        digest = hashlib.sha256(
            json.dumps(
                [self.weights, self.spec.to_dict(), views, self.seed if views else 0]
            ).encode()
        )
        for source in self.sources:
            digest.update(json.dumps(_identity(source)).encode())
        return digest.hexdigest()[:32]


class FeatureCache(NamedTuple):
    """Rows of all views. views: for each a memory map (N, ...) float16; a bad image's row is 0.

    usable: (N',) the images whose rows hold something; skipped: the others.
    """

    views: tuple[Half, ...]
    usable: IntArray
    skipped: tuple[Skipped, ...]

    def rows(self, images: IntArray, views: IntArray) -> Half:
        """images, views: (B,). Returns (B, ...) float16."""
        return np.stack([self.views[v][i] for i, v in zip(images, views, strict=True)])

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell another process the files, which it maps too: pickled rows would be a copy each."""
        files = tuple(Path(view.filename) for view in self.views)  # type: ignore[attr-defined]
        return _mapped, (files, self.usable, self.skipped)


def open_cache(
    directory: Path,
    request: Request,
    run: Run,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> FeatureCache:
    """Return the rows that are asked for, after computing those that are not there.

    directory: of all caches. Bad images are skipped by name. StoreError when it cannot be written,
    DatasetError when no image is good.
    """
    place = directory / request.key
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "lock"):
            missing = [v for v in range(request.views.count) if not _view_file(place, v).exists()]
            if missing:
                _Filling(place, request, missing, run).fill(threads, progress or (lambda _: None))
        bad: dict[str, str] = _read_json(place / "skipped.json", {})
        usable = [i for i, source in enumerate(request.sources) if source.name not in bad]
        skipped = tuple(Skipped(name, reason) for name, reason in bad.items())
        if not usable:
            raise DatasetError(f"none of {len(skipped)} images is usable; first: {skipped[:1]}")
        files = tuple(_view_file(place, v) for v in range(request.views.count))
        return _mapped(files, np.array(usable, dtype=np.int64), skipped)
    except OSError as error:
        raise StoreError(
            f"cannot keep image features in {place} ({error.strerror or error}); check the disk, "
            "or set MINICLIP_HOME to a directory that you may write to"
        ) from error


def _mapped(
    files: tuple[Path, ...], usable: IntArray, skipped: tuple[Skipped, ...]
) -> FeatureCache:
    return FeatureCache(tuple(np.load(file, mmap_mode="r") for file in files), usable, skipped)


class _Filling:
    """The missing views of one cache, computed together so that each image is decoded once."""

    def __init__(self, place: Path, request: Request, missing: list[int], run: Run) -> None:
        self._place = place
        self._request = request
        self._missing = missing
        self._run = run
        self._parts: list[Half] = []

    def fill(self, threads: int, progress: Progress) -> None:
        """Go on where an earlier attempt at the same views stopped, and finish."""
        request, count = self._request, len(self._request.sources)
        state = _read_json(self._progress_file, {})
        done = int(state["done"]) if state.get("views") == self._missing else 0
        bad: dict[str, str] = _read_json(self._place / "skipped.json", {}) if done else {}
        per_chunk = max(1, ROWS_AT_ONCE // len(self._missing))
        saved = done
        for chunk in self._pixels(done, per_chunk, threads):
            good = [i for i, pixels in chunk.items() if not isinstance(pixels, str)]
            bad |= {request.sources[i].name: p for i, p in chunk.items() if isinstance(p, str)}
            if good:
                self._write(good, np.stack([chunk[i] for i in good]))
            done += len(chunk)
            progress(done)
            if done - saved >= _SAVE_EVERY:
                self._save(done, bad)
                saved = done
        self._save(count, bad)
        for view in self._missing:
            if self._part_file(view).exists():  # it does not when no image was good
                self._part_file(view).replace(_view_file(self._place, view))
        self._progress_file.unlink(missing_ok=True)

    def _pixels(
        self, start: int, per_chunk: int, threads: int
    ) -> Iterator[dict[int, FloatArray | str]]:
        """Yield chunks of image number -> (V, 3, S, S), or why there are none; decode ahead."""
        waiting: deque[tuple[int, Future[FloatArray | str]]] = deque()
        coming = iter(range(start, len(self._request.sources)))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="miniclip-views")
        try:
            while True:
                while len(waiting) < 2 * per_chunk and (image := next(coming, None)) is not None:
                    waiting.append((image, pool.submit(self._views_of, image)))
                if not waiting:
                    return
                taken = [waiting.popleft() for _ in range(min(per_chunk, len(waiting)))]
                yield {image: future.result() for image, future in taken}
        finally:
            pool.shutdown(cancel_futures=True)

    def _views_of(self, image: int) -> FloatArray | str:
        request, source = self._request, self._request.sources[image]
        try:  # as `embed` decodes, so that the plain view has the pixels of the runtime
            picture = decode(source, at_least=request.spec.enough())
        except ImageError as error:
            return str(error)
        return np.stack(
            [
                preprocess(
                    fixed_view(
                        picture, request.views, view=view, seed=request.seed, name=source.name
                    ),
                    request.spec,
                )
                for view in self._missing
            ]
        )

    def _write(self, images: list[int], pixels: FloatArray) -> None:
        """pixels: (B, V, 3, S, S)."""
        rows = self._run(pixels.reshape(-1, *pixels.shape[2:]))
        rows = rows.reshape(*pixels.shape[:2], *rows.shape[1:])
        if not self._parts:
            self._open_parts(rows.shape[2:])
        for part, of_view in zip(self._parts, rows.swapaxes(0, 1), strict=True):
            part[images] = of_view

    def _open_parts(self, shape: tuple[int, ...]) -> None:
        wanted = (len(self._request.sources), *shape)
        for view in self._missing:
            path = self._part_file(view)
            going_on = self._progress_file.exists() and path.exists()
            mode: Any = "r+" if going_on else "w+"
            part = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=wanted)
            self._parts.append(part)

    def _save(self, done: int, bad: Mapping[str, str]) -> None:
        for part in self._parts:
            part.flush()  # type: ignore[attr-defined]
        _write_json(self._place / "skipped.json", bad)
        _write_json(self._progress_file, {"views": self._missing, "done": done})

    @property
    def _progress_file(self) -> Path:
        return self._place / "progress.json"

    def _part_file(self, view: int) -> Path:
        return self._place / f"view-{view:03d}.part"


def _view_file(place: Path, view: int) -> Path:
    return place / f"view-{view:03d}.npy"


def _identity(source: ImageSource) -> list[Any]:
    """Tell images apart without reading them all: place, size and time of change."""
    if source.path is None:
        return [source.name, hashlib.sha256(source.data or b"").hexdigest()]
    try:
        facts = source.path.stat()
    except OSError:
        return [source.name, "missing"]  # decoding will say why
    return [source.name, facts.st_size, facts.st_mtime_ns, source.offset, source.size]


def _read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return default


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as stream:
        stream.write(json.dumps(content).encode())
