"""Vectors of very many images in Parquet shards, over any file system; a killed run goes on.

plan.parquet             every image, listed once: one row group is one shard
part-00000.parquet       id, sha256, embedding: each content once, by the first image that has it
repeats-00000.parquet    id, sha256 of the other images of a content
rejects-00000.parquet    id, reason

A part is written last and whole, so a shard is done when its part is there. This file knows neither
the model nor the cluster: what embeds comes in as a function.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
from pyarrow import parquet

from miniclip.bulk.batch import BATCH, Embed, FarVectors
from miniclip.bulk.far import FarImage, file_system, list_images
from miniclip.embed import Progress, Skipped
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, DatasetError, StoreError
from miniclip.index.scratch import scratch

SHARD = 10_000  # images
_SHOWN = 100  # rejects that a result names; the tables have all
_PLAN = "plan.parquet"
_ADD = "INSERT OR IGNORE INTO contents VALUES (?)"
_IMAGE = pa.schema(
    [("name", pa.string()), ("root", pa.string()), ("path", pa.string()), ("offset", pa.int64()),
     ("size", pa.int64()), ("row", pa.int64()), ("wrong", pa.string())]
)  # fmt: skip
_REJECT = pa.schema([("id", pa.string()), ("reason", pa.string())])
_REPEAT = pa.schema([("id", pa.string()), ("sha256", pa.binary(32))])


@dataclass(frozen=True)
class Sharded:
    """What lies in a folder of shards, and how many of its shards this run found done.

    vectors, repeats, rejected: images; skipped: the first of those that this run rejected.
    """

    vectors: int
    repeats: int
    rejected: int
    shards: int
    found: int
    skipped: tuple[Skipped, ...]


def embed_shards(
    encoder: Encoder,
    places: Sequence[str],
    output: str,
    embed: Embed,
    *,
    shard: int = SHARD,
    progress: Progress | None = None,
) -> Sharded:
    """Embed all images at some places into a folder, or go on where a killed run stopped.

    places: see `far.list_images`; output: a path or URI of a folder. Memory holds one shard, a
    temporary file of this computer 42 bytes for each content. ConfigError when the folder holds
    something else, DatasetError when there are no images, StoreError when the folder or the
    temporary file cannot be written.
    """
    try:
        folder = _Folder(output)
        plan = folder.plan(encoder, places, shard)
        with scratch() as db:
            filling = _Filling(folder, encoder, plan, _Contents(db), progress or (lambda _: None))
            return filling.fill(embed)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"cannot keep shards in {output} ({error}); check the place and the credentials, and "
            "run the same command: it goes on where it was"
        ) from error


class _Folder:
    """The files of an output."""

    def __init__(self, output: str) -> None:
        self.output = output
        self._files, self._path = file_system(output)

    def names(self) -> set[str]:
        """Return the files that are there, whole ones only."""
        selector = pyarrow.fs.FileSelector(self._path, allow_not_found=True)
        return {entry.base_name for entry in self._files.get_file_info(selector)}

    def open(self, name: str) -> parquet.ParquetFile:
        """Open a table."""
        return parquet.ParquetFile(self._files.open_input_file(f"{self._path}/{name}"))

    def write(self, name: str, tables: Iterable[pa.Table], about: dict[str, str]) -> None:
        """Write tables as row groups of a file under a hidden name, then move it to its own."""
        fresh = f"{self._path}/.{name}.{uuid.uuid4().hex}"
        coming = iter(tables)
        first = next(coming)
        schema = first.schema.with_metadata(about)
        self._files.create_dir(self._path)
        with (
            self._files.open_output_stream(fresh) as stream,
            parquet.ParquetWriter(stream, schema) as writer,
        ):
            for table in chain([first], coming):
                writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))
        self._files.move(fresh, f"{self._path}/{name}")

    def plan(self, encoder: Encoder, places: Sequence[str], shard: int) -> parquet.ParquetFile:
        """Open the list of images, after making it if there is none."""
        about = {
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "places": json.dumps(list(places)),
            "shard": str(shard),
        }
        if _PLAN not in self.names():
            rows = chain.from_iterable(map(list_images, places))
            first = next(rows, None)
            if first is None:
                raise DatasetError(f"there are no images at {', '.join(places)}; check the places")
            some = _taken(chain([first], rows), shard)
            self.write(_PLAN, (_table(_IMAGE, images) for images in some), about)
        plan = self.open(_PLAN)
        found = {key.decode(): value.decode() for key, value in plan.metadata.metadata.items()}
        differing = [key for key in about if found.get(key) != about[key]]
        if differing:
            raise ConfigError(
                f"{self.output} was begun with another {', '.join(differing)} "
                f"({', '.join(found.get(key, 'none')[:80] for key in differing)}); give that, or "
                "another folder"
            )
        return plan


class _Contents:
    """The contents that have a vector, by their digests."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute("CREATE TABLE contents (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, digest: bytes) -> bool:
        """Take one in; return whether it is new."""
        return bool(self._db.execute(_ADD, (digest,)).rowcount)

    def update(self, digests: Iterable[bytes]) -> None:
        """Take many in."""
        self._db.executemany(_ADD, ((digest,) for digest in digests))


class _Filling:
    """The shards of a plan while they are made."""

    def __init__(
        self,
        folder: _Folder,
        encoder: Encoder,
        plan: parquet.ParquetFile,
        known: _Contents,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._plan = plan
        self._progress = progress
        self._known = known
        self._counts = {"part": 0, "repeats": 0, "rejects": 0}
        self._skipped: list[Skipped] = []

    def fill(self, embed: Embed) -> Sharded:
        """Make the shards that are missing; batches of the next are begun before one is whole."""
        there = self._folder.names()
        shards = range(self._plan.metadata.num_row_groups)
        done = [number for number in shards if f"part-{number:05}.parquet" in there]
        for number in done:
            self._count(number)
        missing = [number for number in shards if number not in set(done)]
        # One stream over all shards, so that a cluster never waits for the end of one.
        batches = chain.from_iterable(map(self._batches, missing))
        outcomes = embed(batches)
        for number in missing:
            self._fill_one(number, outcomes)
        return Sharded(
            vectors=self._counts["part"],
            repeats=self._counts["repeats"],
            rejected=self._counts["rejects"],
            shards=len(shards),
            found=len(done),
            skipped=tuple(self._skipped[:_SHOWN]),
        )

    def _batches(self, number: int) -> Iterator[tuple[FarImage, ...]]:
        images = self._plan.read_row_group(number)
        for start in range(0, len(images), BATCH):
            yield tuple(FarImage(**row) for row in images.slice(start, BATCH).to_pylist())

    def _count(self, number: int) -> None:
        """Take a shard that is done into account."""
        for kind in self._counts:
            table = self._folder.open(f"{kind}-{number:05}.parquet")
            self._counts[kind] += table.metadata.num_rows
            if kind == "part":
                self._known.update(table.read(["sha256"]).column(0).to_pylist())
        self._progress(sum(self._counts.values()))

    def _fill_one(self, number: int, outcomes: Iterator[FarVectors]) -> None:
        ids: list[str] = []
        digests: list[bytes] = []
        size = self._plan.metadata.row_group(number).num_rows
        embeddings = np.empty((size, self._encoder.embedding_dim), dtype=np.float32)
        repeats: list[tuple[str, bytes]] = []
        rejects: list[tuple[str, str]] = []
        for images, found in zip(self._batches(number), outcomes, strict=False):
            kept = []
            for place, (row, digest) in enumerate(zip(found.rows, found.digests, strict=True)):
                if not self._known.add(digest):
                    repeats.append((images[row].name, digest))
                    continue
                kept.append(place)
                ids.append(images[row].name)
                digests.append(digest)
            embeddings[len(ids) - len(kept) : len(ids)] = found.embeddings[kept]
            rejects += [(images[row].name, found.rejects[row]) for row in sorted(found.rejects)]
            self._progress(sum(self._counts.values()) + len(ids) + len(repeats) + len(rejects))
        self._skipped += [Skipped(*reject) for reject in rejects[: _SHOWN - len(self._skipped)]]
        write = partial(self._write, number)
        write("rejects", _table(_REJECT, rejects))
        write("repeats", _table(_REPEAT, repeats))
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(embeddings[: len(ids)].ravel()), self._encoder.embedding_dim
        )
        part = pa.table(
            {"id": ids, "sha256": pa.array(digests, type=pa.binary(32)), "embedding": vectors}
        )
        write("part", part)
        for kind, count in (("part", ids), ("repeats", repeats), ("rejects", rejects)):
            self._counts[kind] += len(count)

    def _write(self, number: int, kind: str, table: pa.Table) -> None:
        about = {"model": self._encoder.name, "fingerprint": self._encoder.fingerprint}
        self._folder.write(f"{kind}-{number:05}.parquet", [table], about)


def _table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    records = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(records, schema=schema)


def _taken(images: Iterator[FarImage], count: int) -> Iterator[tuple[FarImage, ...]]:
    """Take so many at a time; what `itertools.batched` does from Python 3.12 on."""
    while some := tuple(islice(images, count)):
        yield some
