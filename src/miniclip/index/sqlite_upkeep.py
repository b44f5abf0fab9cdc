"""What keeps an SQLite index fast and small: graphs over many rows, and files without dead rows.

Both make a new file beside the old one and switch by name in one transaction, so a reader holds
either the old pair of database and files or the new one. Only the one writer calls this.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
import uuid
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from miniclip.arrays import IntArray
from miniclip.errors import StoreError
from miniclip.index.nearest import Graph
from miniclip.index.sqlite_schema import transaction
from miniclip.index.store import REBUILD, DamagedStoreError
from miniclip.index.vector_matrix import append_rows, map_rows, sync_directory

GRAPH_FROM = 500_000  # rows from which a graph pays; see docs/store.md
_TAIL_SHARE = 0.05  # of all rows: as many may be missing from the graph and searched exactly
_DEAD_SHARE = 0.25  # of all rows: as many may be dead before the file is copied without them
_COPY_ROWS = 65536
_READ_BYTES = 1 << 22
_MATRIX_HEADER = struct.Struct("<II")  # of the vectors in a file of usearch: rows, bytes of one
_OURS = re.compile(r"(vectors|graph)-[0-9a-f]{8}-[0-9a-f]{12}\.(f16|usearch)")
_SUFFIX = {"vectors": "f16", "graph": "usearch"}


def new_file(what: str, fingerprint: str) -> str:
    """Name a file that never was: a reader that knows a name knows the content."""
    model = f"{zlib.crc32(fingerprint.encode()):08x}"
    return f"{what}-{model}-{uuid.uuid4().hex[:12]}.{_SUFFIX[what]}"


def tidy(db: sqlite3.Connection, directory: Path) -> None:
    """Remove files that the database does not name: what a killed or finished writer left."""
    named = {name for row in db.execute("SELECT file, graph FROM matrices") for name in row}
    for entry in directory.iterdir():
        if _OURS.fullmatch(entry.name) and entry.name not in named:
            with suppress(OSError):  # mapped on Windows: next time
                entry.unlink()


def optimise(db: sqlite3.Connection, directory: Path, *, graph_from: int) -> None:
    """Copy files with many dead rows, and make or extend graphs, wherever it pays."""
    for matrix in _matrices(db):
        dead = len(_dead(db, matrix))
        if dead > _DEAD_SHARE * matrix["slots"]:
            _compact(db, directory, matrix)
    for matrix in _matrices(db):
        newer = matrix["slots"] - (matrix["graph_slots"] or 0)
        if matrix["slots"] >= graph_from and newer > _TAIL_SHARE * matrix["slots"]:
            _link(db, directory, matrix)
    tidy(db, directory)


def open_graph(directory: Path, matrix: sqlite3.Row) -> Graph | None:
    """Map the graph of a matrix, checked; None when it has none."""
    if matrix["graph"] is None:
        return None
    path = directory / matrix["graph"]
    if _check(path) != matrix["graph_check"]:
        raise DamagedStoreError(f"{path} is damaged; {REBUILD}")
    return Graph.view(path, covered=matrix["graph_slots"], dim=matrix["dim"])


def _compact(db: sqlite3.Connection, directory: Path, matrix: sqlite3.Row) -> None:
    old = map_rows(directory / matrix["file"], rows=matrix["slots"], dim=matrix["dim"])
    alive = np.setdiff1d(np.arange(matrix["slots"]), _dead(db, matrix))
    file = new_file("vectors", matrix["fingerprint"])
    for start in range(0, len(alive), _COPY_ROWS):
        append_rows(directory / file, old[alive[start : start + _COPY_ROWS]], after=start)
    sync_directory(directory)
    with transaction(db):
        db.execute("DELETE FROM matrices WHERE id = ?", (matrix["id"],))
        fresh = db.execute(
            "INSERT INTO matrices (model, kind, file, slots, revision) VALUES (?, ?, ?, ?, 0)",
            (matrix["model"], matrix["kind"], file, len(alive)),
        ).lastrowid
        db.execute(
            "INSERT INTO vectors (matrix, item, slot, seal) "
            "SELECT ?, item, row_number() OVER (ORDER BY slot) - 1, seal "
            "FROM vectors WHERE matrix = ?",
            (fresh, matrix["id"]),
        )
        db.execute("DELETE FROM vectors WHERE matrix = ?", (matrix["id"],))
        db.execute("DELETE FROM dead WHERE matrix = ?", (matrix["id"],))


def _link(db: sqlite3.Connection, directory: Path, matrix: sqlite3.Row) -> None:
    rows = map_rows(directory / matrix["file"], rows=matrix["slots"], dim=matrix["dim"])
    file = new_file("graph", matrix["fingerprint"])
    before = directory / matrix["graph"] if matrix["graph"] else None
    try:
        Graph.build(
            rows,
            directory / file,
            dead=_dead(db, matrix),
            extend=(before, matrix["graph_slots"]) if before else None,
        )
        with (directory / file).open("rb") as stream:
            os.fsync(stream.fileno())
        sync_directory(directory)
        check = _check(directory / file)
    except (OSError, RuntimeError) as error:  # usearch has no errors of its own
        (directory / file).unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {directory / file} ({error}); free some disk and try again: until then "
            "searches are exact, and slower"
        ) from error
    with transaction(db):
        db.execute(
            "UPDATE matrices SET graph = ?, graph_slots = ?, graph_check = ?, "
            "revision = revision + 1 WHERE id = ?",
            (file, matrix["slots"], check, matrix["id"]),
        )


def _check(path: Path) -> str:
    """Size and checksum of all but the vectors in a graph file: its header, and the links.

    A wrong number in a vector only sends a search astray, and its answers come from the matrix; a
    wrong link would lead out of the file.
    """
    with path.open("rb") as stream:
        header = stream.read(_MATRIX_HEADER.size)
        rows, row_bytes = _MATRIX_HEADER.unpack(header.ljust(_MATRIX_HEADER.size, b"\0"))
        checksum = zlib.crc32(header)
        stream.seek(rows * row_bytes, os.SEEK_CUR)
        while part := stream.read(_READ_BYTES):
            checksum = zlib.crc32(part, checksum)
        return f"{stream.seek(0, os.SEEK_END)}:{checksum}"


def _dead(db: sqlite3.Connection, matrix: sqlite3.Row) -> IntArray:
    found = db.execute("SELECT slot FROM dead WHERE matrix = ?", (matrix["id"],)).fetchall()
    return np.array(found, dtype=np.int64).reshape(-1)


def _matrices(db: sqlite3.Connection) -> list[sqlite3.Row]:
    cursor = db.execute(
        "SELECT matrices.*, models.dim, models.fingerprint FROM matrices "
        "JOIN models ON models.id = matrices.model"
    )
    cursor.row_factory = sqlite3.Row
    return cursor.fetchall()
