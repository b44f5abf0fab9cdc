"""`embed_stream` on a Ray cluster: other computers decode and run the model, batch by batch.

Only this module imports ray. It embeds and does nothing else: what is new, what is stored where,
and what was refused is decided by whoever reads the stream, on one computer, as without Ray. So a
run that was stopped goes on where it was, and content that is there twice is embedded once.

Batches are tasks and not actors: Ray runs them on whatever computer there is at the moment, one
that joined a second ago included, and runs those again that were on one that went.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.bulk.batch import BATCH, Batches, Embed, FarVectors, embed_far
from miniclip.bulk.far import FarImage
from miniclip.bundle import MANIFEST_FILE, Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.embed import Embedded, Look, Skipped, embed_stream
from miniclip.encoder import Encoder
from miniclip.errors import ClusterError, MiniClipError, MissingExtraError
from miniclip.home import cache_dir
from miniclip.images import ImageSource
from miniclip.runtimes import chosen_runtime, open_encoder
from miniclip.views import PLAIN, View

_AHEAD = 3  # batches on their way to each worker
_CONNECT_SECONDS = 10.0
_TRIES = 10  # of a batch whose computers go

_VERSION = version("miniclip")

Work = TypeVar("Work")
_State = tuple[int, int]  # size and modification time of a file


class Job(NamedTuple):
    """A batch for a worker. states: of the files as they are here, None for bytes."""

    sources: tuple[ImageSource, ...]
    states: tuple[_State | None, ...]
    view: View
    look: Look | None


class Done(NamedTuple):
    """A batch from a worker.

    rows: which of the sources have vectors; embeddings (B, D),
    features (B, F), seen: as of `Embedded`. skipped: row -> reason. elsewhere: whether the worker
    does not see all the files, or not as they are here; then nothing was done.
    """

    rows: tuple[int, ...]
    embeddings: FloatArray
    features: FloatArray
    seen: tuple[Any, ...]
    skipped: Mapping[int, str]
    elsewhere: bool


@dataclass(frozen=True)
class Model:
    """What a worker needs to run the model: files by name, as bytes."""

    fingerprint: str
    files: Mapping[str, bytes]
    runtime: str
    threads: int
    version: str


class RayCluster:
    """A connection to a cluster that embeds with one bundle; use it as a context manager."""

    def __init__(
        self,
        bundle: Bundle,
        address: str | None = None,
        *,
        threads: int = 1,
        runtime: str | None = None,
    ) -> None:
        """Connect to a cluster, or start a Ray of its own on this computer, over all its CPUs.

        address: "ray://HOST:10001", "HOST:6379" or "auto"; None: what RAY_ADDRESS says, else this
        computer. threads: CPUs for each batch. runtime: as for `open_encoder`. MissingExtraError
        without ray, ClusterError when there is no cluster at the address.
        """
        try:
            import ray  # noqa: PLC0415 - seconds
        except ImportError:
            raise MissingExtraError("--engine ray", "ray") from None
        address = address or os.environ.get("RAY_ADDRESS")
        _check_listens(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        self._ray: Any = ray
        self._threads = threads
        try:
            ray.init(
                address=address,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from error
        _keep_stdout(ray)
        names = (MANIFEST_FILE, *bundle.files)
        files = {name: bundle.path(name).read_bytes() for name in names}
        model = Model(bundle.fingerprint, files, chosen_runtime(runtime), threads, _VERSION)
        self._bundle = bundle
        self._model = ray.put(model)
        remote = ray.remote(num_cpus=threads, max_retries=_TRIES)
        self._task, self._far_task = remote(embed_batch), remote(embed_far_batch)

    def stream(
        self,
        encoder: Encoder,
        sources: Iterable[ImageSource],
        *,
        view: View = PLAIN,
        look: Look | None = None,
    ) -> Generator[Embedded | Skipped]:
        """Do as `embed_stream` does, on the cluster; ClusterError when that cannot go on.

        Files are read by the workers if they see them as they are here, else sent to them. look:
        has to be a function of a module.
        """
        self._check(encoder)
        coming = iter(sources)
        batches = iter(lambda: tuple(islice(coming, BATCH)), ())
        jobs = (Job(batch, tuple(map(_state, batch)), view, look) for batch in batches)
        with closing(self._promised(self._task, jobs)) as promised:
            for job, promise in promised:
                yield from self._outcomes(job, promise)

    def embed_far(self, encoder: Encoder) -> Embed:
        """Return what embeds batches of far images, which the workers read themselves."""
        self._check(encoder)

        def embed(batches: Batches) -> Iterator[FarVectors]:
            with closing(self._promised(self._far_task, batches)) as promised:
                for _, promise in promised:
                    yield self._result(promise)

        return embed

    def close(self) -> None:
        """Disconnect; a Ray of its own ends."""
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _room(self, waiting: int) -> int:
        """Return how many more batches the cluster, as it is now, should have."""
        workers = int(self._ray.cluster_resources().get("CPU", 0)) // self._threads
        return max(_AHEAD * max(1, workers) - waiting, 0)

    def _promised(self, task: Any, jobs: Iterable[Work]) -> Generator[tuple[Work, Any]]:
        """Hand out as many jobs as the cluster can take; yield each with its promise, in order."""
        waiting: deque[tuple[Work, Any]] = deque()
        coming = iter(jobs)
        try:
            while True:
                for job in islice(coming, self._room(len(waiting))):
                    waiting.append((job, task.remote([self._model], job)))
                if not waiting:
                    return
                yield waiting.popleft()
        finally:
            for _, promise in waiting:
                with suppress(Exception):  # it is gone with its cluster
                    self._ray.cancel(promise)

    def _outcomes(self, job: Job, promise: Any) -> Generator[Embedded | Skipped]:
        done: Done = self._result(promise)
        if done.elsewhere:
            sent = tuple(map(_with_data, job.sources))
            again = job._replace(sources=sent, states=(None,) * len(sent))
            done = self._result(self._task.remote([self._model], again))
        for row, reason in done.skipped.items():
            yield Skipped(job.sources[row].name, reason)
        if done.rows:
            kept = tuple(job.sources[row] for row in done.rows)
            yield Embedded(kept, done.embeddings, done.features, done.seen)

    def _check(self, encoder: Encoder) -> None:
        if self._bundle.fingerprint != encoder.fingerprint:
            raise ClusterError(
                f"the cluster embeds with {self._bundle.fingerprint[:12]} and not with "
                f"{encoder.name} ({encoder.fingerprint[:12]}); connect with that bundle"
            )

    def _result(self, promise: Any) -> Any:
        try:
            return self._ray.get(promise)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, MiniClipError):
                raise ClusterError(f"a worker of the cluster says: {cause}") from error
            raise ClusterError(
                f"a worker of the cluster failed ({cause!r}); check that miniclip {_VERSION} "
                "with its extra [ray] is installed on every computer of it"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise ClusterError(
                f"the Ray cluster failed ({error}); start it again and run the same command: "
                "it goes on where it was"
            ) from error


def _keep_stdout(ray: Any) -> None:
    """Keep Ray from telling on stdout, where answers are read, of computers that go.

    No option says so. What is lost for good is raised.
    """
    ray._private.worker._worker_logs_enabled = False


def _check_listens(address: str | None) -> None:
    """Refuse an address at which nobody listens, which Ray tries for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").partition(":")
    if not (colon and port.isdecimal()):  # a name such as "auto"
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> ClusterError:
    return ClusterError(
        f"there is no Ray at {address} ({error}); start one with: ray start --head, or leave "
        "--address out to use the CPUs of this computer"
    )


# On the workers


@dataclass(frozen=True)
class _Worker:
    """What a process of the cluster keeps from batch to batch."""

    encoder: BundleEncoder
    threads: int


_WORKERS: dict[Any, _Worker] = {}


def embed_batch(model: Sequence[Any], job: Job) -> Done:
    """Embed one batch. model: a list of one reference to a `Model`, fetched once by a process."""
    worker = _worker(model[0])
    encoder = worker.encoder
    elsewhere = any(
        state is not None and state != _state(source)
        for source, state in zip(job.sources, job.states, strict=True)
    )
    none = np.empty((0, 0), dtype=np.float32)
    done = Done((), none, none, (), {}, elsewhere)
    if elsewhere:
        return done
    row_of = {source.name: row for row, source in enumerate(job.sources)}
    stream = embed_stream(
        encoder, job.sources, batch_size=BATCH, threads=worker.threads, view=job.view, look=job.look
    )
    skipped: dict[int, str] = {}
    for outcome in stream:
        if isinstance(outcome, Skipped):
            skipped[row_of[outcome.name]] = outcome.reason
        else:
            rows = tuple(row_of[source.name] for source in outcome.sources)
            _, embeddings, features, seen = outcome
            done = done._replace(rows=rows, embeddings=embeddings, features=features, seen=seen)
    return done._replace(skipped=skipped)


def embed_far_batch(model: Sequence[Any], images: tuple[FarImage, ...]) -> FarVectors:
    """Read and embed a batch of far images. model: as for `embed_batch`."""
    worker = _worker(model[0])
    return embed_far(worker.encoder, images, worker.threads)


def _worker(reference: Any) -> _Worker:
    """Open the model that a reference is of, once in the life of a process."""
    if reference not in _WORKERS:
        import ray  # noqa: PLC0415

        model: Model = ray.get(reference)
        if model.version != _VERSION:
            raise ClusterError(
                f"it has miniclip {_VERSION}, and {model.version} asks; install the same "
                "version on every computer of the cluster"
            )
        bundle = Bundle.open(_unpacked(model))
        encoder = open_encoder(bundle, threads=model.threads, runtime=model.runtime)
        _WORKERS.clear()  # one model at a time
        _WORKERS[reference] = _Worker(encoder, model.threads)
    return _WORKERS[reference]


def _unpacked(model: Model) -> Path:
    """Write the files of a bundle to where all processes of a computer find them."""
    place = cache_dir() / "cluster" / model.fingerprint
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=place.parent))
        for name, data in model.files.items():
            (fresh / name).write_bytes(data)
        with suppress(OSError):  # another process was first
            fresh.rename(place)
    return place


# On both


def _state(source: ImageSource) -> _State | None:
    """Return what tells a file from another of its name; None for bytes, and without a file."""
    if source.path is None:
        return None
    try:
        status = source.path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _with_data(source: ImageSource) -> ImageSource:
    """Return a source with its bytes; as it is when it cannot be read, and a worker says why."""
    if source.path is None:
        return source
    try:
        with source.path.open("rb") as stream:
            stream.seek(source.offset)
            return ImageSource(source.name, data=stream.read(source.size))
    except OSError:
        return source
