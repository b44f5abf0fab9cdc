"""A writer to kill, a reader to watch, and what must be true afterwards; for tests of kills.

The photos are imagined: photo n in version v has the content sha256("n:v") and a vector that
follows from it, so whoever reads can compute which vector belongs to which content. A folder goes
through rounds; which photos lie where in round r follows from r alone. The writer brings the index
in step with a round, in small batches, as `miniclip index` does with a real folder.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.errors import StoreError
from miniclip.index.store import Known, Model, NewImage
from tests.index.store_kinds import AnyStore, Home

PHOTOS, VERSIONS, DIM, BATCH = 160, 3, 32, 8
GRAPH_FROM = 100
MODEL = Model("k" * 64, "killed-model", DIM)

# Processes that begin with all this imported, and share no connection with the tests.
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = [__name__, "pymilvus", "milvus_lite.adapter.grpc.server"]


@contextmanager
def forks() -> Iterator[None]:
    """Split processes off from one that has imported what they need, and end that one.

    A process has one fork server at a time. If ours stayed, the processes of later tests would be
    split off from it too, and each would have to import what it needs, torch for one.
    """
    server = forkserver._forkserver
    server._stop()  # type: ignore[attr-defined]
    _FORKS.set_forkserver_preload(_IMPORTED)
    yield
    server._stop()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Imagined:
    """An index of imagined photos; other processes can be told."""

    home: Home
    photos: int = PHOTOS

    def open(self, *, write: bool = False) -> AnyStore:
        """Open the index with the model."""
        store = self.home.open(write=write, **({"graph_from": GRAPH_FROM} if write else {}))
        store.use_model(MODEL)
        return store

    def step_to(self, round_: int) -> None:
        """Open the index and bring it in step with a round."""
        with self.open(write=True) as store:
            step_to(store, self.folder(round_))

    def folder(self, round_: int) -> dict[str, NewImage]:
        """Which photos lie where: some come, go, move and change from round to round."""
        images = (_photo(photo, round_) for photo in range(self.photos))
        return {image.path: image for image in images if image}


@lru_cache(maxsize=1)
def vector_of() -> dict[bytes, FloatArray]:
    """Every content there is, and its vector (D,)."""
    rows = unit_rows(np.random.default_rng(1).standard_normal((PHOTOS * VERSIONS, DIM)))
    return {content(*divmod(row, VERSIONS)): rows[row] for row in range(len(rows))}


def content(photo: int, version: int) -> bytes:
    return hashlib.sha256(f"{photo}:{version}".encode()).digest()


def _photo(photo: int, round_: int) -> NewImage | None:
    chance = np.random.default_rng((photo, round_ // 2))  # every second round changes nothing
    gone, version, moves = chance.random() < 0.2, int(chance.integers(VERSIONS)), chance.random()
    if gone:
        return None
    return NewImage(
        path=f"{int(moves * 4)}/photo {photo}.jpg" if moves < 0.5 else f"photo {photo}.jpg",
        content=content(photo, version),
        size=photo,
        mtime_ns=version,
        captions=(f"photo {photo}", f"version {version}"),
    )


def step_to(store: AnyStore, images: dict[str, NewImage]) -> None:
    """Bring the index in step, as a synchronisation does."""
    known = {entry.place.path: entry for entry in store.known()}
    vanished = {path: entry for path, entry in known.items() if path not in images}
    by_content: dict[bytes, Known] = {entry.content: entry for entry in vanished.values()}
    moved = {
        by_content[image.content].id: image
        for path, image in images.items()
        if path not in known and image.content in by_content
    }
    for number, image in moved.items():
        store.update({number: image})
    gone = [entry.id for entry in vanished.values() if entry.id not in moved]
    for start in range(0, len(gone), BATCH):
        store.delete(gone[start : start + BATCH])
    known = {entry.place.path: entry for entry in store.known()}
    fresh = [
        image
        for path, image in images.items()
        if path not in known or known[path].content != image.content
    ]
    for start in range(0, len(fresh), BATCH):
        batch = fresh[start : start + BATCH]
        store.upsert(batch, np.stack([vector_of()[image.content] for image in batch]))
    while texts := store.texts_to_embed(BATCH):
        store.add_text_vectors(texts, np.stack([text_vector(text) for text in texts]))
    store.optimise()


def text_vector(text: str) -> FloatArray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    row: FloatArray = unit_rows(np.random.default_rng(seed).standard_normal((1, DIM)))[0]
    return row


# Processes


def write_forever(index: Imagined, round_: int, said: Connection) -> None:
    """Go through rounds from this one on until killed, saying when each begins and has ended."""
    said.send(("opening", round_))
    try:
        with index.open(write=True) as store:
            while True:
                said.send(("begun", round_))
                step_to(store, index.folder(round_))
                said.send(("ended", round_))
                round_ += 1
    except StoreError as error:
        said.send(("refused", str(error)))


def read_forever(index: Imagined, said: Connection) -> None:
    """Search until told to stop, now with one open store, now with a fresh one; report errors."""
    searches = 0
    rng = np.random.default_rng(os.getpid())
    contents = list(vector_of())
    try:
        while not said.poll():
            with index.open() as store:
                for _ in range(20):
                    wanted = contents[rng.integers(len(contents))]
                    check_search(store, wanted)
                    searches += 1
        said.send(searches)
    except BaseException as error:
        said.send(f"after {searches} searches: {type(error).__name__}: {error}")
        raise


def check_search(store: AnyStore, wanted: bytes) -> None:
    """Search for a content: whoever is found has the vector of one of its photo's versions."""
    found = store.nearest(vector_of()[wanted], top=5)
    cosines = {hit.id: hit.cosine for hit in found}
    assert len(cosines) == len(found), "an image was found twice"
    for record in store.records(list(cosines)):
        # Between the two questions the photo may have changed: any of its versions will do.
        possible = [
            float(vector_of()[content(record.size, version)] @ vector_of()[wanted])
            for version in range(VERSIONS)
        ]
        assert min(abs(cosines[record.id] - one) for one in possible) < 2e-3, record
    for text in store.nearest_texts(vector_of()[wanted], top=3):
        assert abs(text_vector(text.text) @ vector_of()[wanted] - text.cosine) < 2e-3, text
    store.full_text("photo", top=5)


@dataclass
class Reader:
    """A process that searches."""

    process: BaseProcess
    said: Connection

    def stop(self) -> int:
        """Return the number of its searches; AssertionError if one failed."""
        if not self.said.poll():
            self.said.send("stop")
        answer = self.said.recv()
        self.process.join(30)
        assert isinstance(answer, int), f"a reader failed {answer}"
        return answer


@contextmanager
def readers(index: Imagined, count: int) -> Iterator[list[Reader]]:
    """Let processes search in the background."""
    started = []
    for _ in range(count):
        ours, theirs = _FORKS.Pipe()
        process = _FORKS.Process(target=read_forever, args=(index, theirs), daemon=True)
        process.start()
        started.append(Reader(process, ours))
    try:
        yield started
    finally:
        for reader in started:
            reader.process.kill()
            reader.process.join()


def die_behind(index: Imagined, round_: int, module: str, name: str, calls: int) -> None:
    """Go through a round, and die as soon as a function of a module has been called so often."""
    *owners, own = name.split(".")
    owner = reduce(getattr, owners, import_module(module))
    original, left = getattr(owner, own), calls

    def last_call(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        found = original(*arguments, **options)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    with index.open(write=True) as store:
        setattr(owner, own, last_call)
        step_to(store, index.folder(round_))


def write_and_die(index: Imagined, round_: int, module: str, name: str, calls: int) -> int | None:
    """Let a process do that; return how it ended."""
    arguments = (index, round_, module, name, calls)
    writer = _FORKS.Process(target=die_behind, args=arguments, daemon=True)
    writer.start()
    writer.join(60)
    return writer.exitcode


class Killed(NamedTuple):
    """How far a writer came.

    ended: its last round that ended, if any; begun: the last that it began; refused: why it stopped
    by itself, if it did.
    """

    ended: int | None
    begun: int
    refused: str | None


def write_and_kill(index: Imagined, round_: int, seconds: float) -> Killed:
    """Write from a round on, and kill -9 some seconds after it has begun to open the index."""
    ours, theirs = _FORKS.Pipe(duplex=False)
    writer = _FORKS.Process(target=write_forever, args=(index, round_, theirs), daemon=True)
    writer.start()
    theirs.close()
    said: dict[str, Any] = {}
    assert ours.poll(60), "the writer does not start"
    time.sleep(seconds)
    assert writer.pid
    with suppress(ProcessLookupError):  # it was refused, and has ended
        os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    try:
        while True:
            said.update([ours.recv()])
    except (EOFError, OSError):
        ours.close()
    return Killed(said.get("ended"), said.get("begun", round_), said.get("refused"))


# What must be true


def check_whole(index: Imagined, ended: int, begun: int) -> None:
    """After a kill: all that was done is there, once, with its own vector; no more than was begun.

    ended: the last round known to have ended; begun: the last that any writer has begun since.
    """
    with index.open(write=not index.home.many_processes) as store:
        known = list(store.known())
        ids = [entry.id for entry in known if entry.embedded]
        rows = store.vectors(ids)
        store.verify()
    places = [entry.place for entry in known]
    assert len(set(places)) == len(places), "a photo is doubled"
    assert len(ids) == len(known), "a photo has lost its vector"
    for entry, row in zip(known, rows, strict=True):
        assert row @ vector_of()[entry.content] > 0.999, f"{entry} has the vector of another"
    held = {entry.place.path: entry.content for entry in known}
    states = [index.folder(round_) for round_ in range(ended, begun + 1)]
    for path, found in held.items():
        assert any(path in state and state[path].content == found for state in states), path
    for path, image in states[0].items():
        if all(path in state and state[path].content == image.content for state in states):
            assert held.get(path) == image.content, f"{path} is lost"
