"""The vectors of an SQLite index: which row of which file belongs to whom, and searching them.

A row is written to the disk before the transaction that names it; it is never written over while it
counts, nor after. So whoever sees a row named in its snapshot of the database finds there what was
meant, however many writers were killed since. Rows that nobody owns any more are remembered as dead
until the others are copied to a new file (sqlite_upkeep.py). A seal, a checksum over owner and
vector, is checked whenever a row is about to be an answer. What images and texts are is the
business of the store.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.index.nearest import Found, Graph, nearest_rows, rescored
from miniclip.index.rounded import ROUND_FROM, RoundedRows
from miniclip.index.sqlite_upkeep import new_file, open_graph
from miniclip.index.store import REBUILD, DamagedStoreError, Model
from miniclip.index.store_checks import check_query, no_vector
from miniclip.index.vector_matrix import HalfArray, append_rows, let_go, map_rows, sync_directory

Kind = Literal["image", "text"]

# Whose vector a row is, for its seal.
_OWNER: dict[Kind, str] = {
    "image": "SELECT content FROM images WHERE id = item",
    "text": "SELECT CAST(text AS BLOB) FROM texts WHERE id = item",
}

_GRAPH_SHARE = 0.2  # share of rows that a filter must leave, for the graph to be worth asking
_SPARE = 16  # candidates beyond those expected to do
_ROUNDED_SHARE = 0.25  # share of rows that a filter must leave, for all of them to be looked at
_ROUNDED_TAIL = 0.05  # share of rows that may be newer than the rounded ones
_CHECK_ROWS = 65536


class Scores(NamedTuple):
    """Items (K,) int64 and their cosines, best first, equal ones by item."""

    items: IntArray
    cosines: list[float]


@dataclass(frozen=True)
class _View:
    """A matrix as one snapshot sees it."""

    id: int
    file: str
    revision: int
    rows: HalfArray
    dead: IntArray
    graph_file: str | None
    graph: Graph | None


class VectorTable:
    """All vectors of one kind by one model; the caller brings connections and transactions."""

    def __init__(self, directory: Path, kind: Kind, model: Model) -> None:
        self._directory = directory
        self._kind = kind
        self._model = model
        self._last: _View | None = None
        self._rounding = Lock()
        self._rounded: RoundedRows | None = None
        self._rounded_file = ""

    # Writing

    def prepare(self, db: sqlite3.Connection) -> None:
        """Make the matrix of this model, if there is none. In a transaction."""
        if self._find(db) is None:
            db.execute(
                "INSERT INTO matrices (model, kind, file, slots, revision) "
                "SELECT id, ?, ?, 0, 0 FROM models WHERE fingerprint = ?",
                (self._kind, new_file("vectors", self._model.fingerprint), self._model.fingerprint),
            )

    def write(self, db: sqlite3.Connection, vectors: FloatArray) -> HalfArray:
        """Bring vectors (n, D) to the disk, before the transaction that is to `name` them."""
        matrix = self._matrix(db)
        path = self._directory / matrix["file"]
        kept = append_rows(path, vectors, after=matrix["slots"])
        if not matrix["slots"]:
            sync_directory(self._directory)
        return kept

    def name(
        self,
        db: sqlite3.Connection,
        items: Sequence[int],
        owners: Iterable[bytes],
        kept: HalfArray,
    ) -> None:
        """Give the rows just written to items, whose older rows die. In a transaction."""
        matrix = self._matrix(db)
        bury(db, items, matrix=matrix["id"])
        rows = enumerate(zip(items, owners, kept, strict=True), start=matrix["slots"])
        db.executemany(
            "INSERT INTO vectors (matrix, item, slot, seal) VALUES (?, ?, ?, ?)",
            [(matrix["id"], item, slot, seal(owner, row)) for slot, (item, owner, row) in rows],
        )
        db.execute(
            "UPDATE matrices SET slots = slots + ?, revision = revision + 1 WHERE id = ?",
            (len(items), matrix["id"]),
        )

    # Reading, in a snapshot

    def matrix_id(self, db: sqlite3.Connection) -> int:
        """Return the number of the matrix in the tables; -1 when there is none."""
        matrix = self._find(db)
        return matrix["id"] if matrix else -1

    def having(self, db: sqlite3.Connection, items: Sequence[int]) -> list[int]:
        """Return those of the items that have a vector, in their order."""
        found = db.execute(
            "SELECT item FROM vectors WHERE matrix = ? "
            "AND item IN (SELECT value FROM json_each(?))",
            (self.matrix_id(db), json.dumps([int(item) for item in items])),
        )
        kept = {item for (item,) in found}
        return [item for item in items if item in kept]

    def items(self, db: sqlite3.Connection, *, after: int, limit: int) -> list[int]:
        """Return up to `limit` items that have a vector, ascending, from behind one on."""
        found = db.execute(
            "SELECT item FROM vectors WHERE matrix = ? AND item > ? ORDER BY item LIMIT ?",
            (self.matrix_id(db), after, limit),
        )
        return [item for (item,) in found]

    def vectors(self, db: sqlite3.Connection, items: Sequence[int]) -> FloatArray:
        """Return (n, D) float32 unit rows in the order of the items."""
        view = self._view(db)
        found = self._checked(db, view, "item", items)
        slot_of = {item: slot for slot, item in found}
        missing = [item for item in items if item not in slot_of]
        if missing:
            raise no_vector(self._kind, missing[0], self._model)
        return unit_rows(view.rows[np.array([slot_of[item] for item in items], dtype=np.int64)])

    def nearest(
        self, db: sqlite3.Connection, query: FloatArray, *, top: int, among: IntArray | None = None
    ) -> Scores:
        """Find the `top` closest items, and any as close as the last. among: slots, ascending."""
        check_query(query, self._model)
        view = self._view(db)
        found = (
            self._by_graph(view, query, top, among)
            or self._by_rounded(view, query, top, among)
            or nearest_rows(view.rows, query, top=top, dead=view.dead, among=among)
        )
        item_of = dict(self._checked(db, view, "slot", found.slots.tolist()))
        if view.graph or self._rounded:
            let_go(view.rows)
        items = np.array([item_of[slot] for slot in found.slots.tolist()], dtype=np.int64)
        order = np.lexsort((items, -found.cosines))
        return Scores(items[order], found.cosines[order].tolist())

    def verify(self, db: sqlite3.Connection) -> int:
        """Check every row against its seal; return how many there are. DamagedStoreError."""
        view = self._view(db)
        items = [item for (item,) in db.execute(
            "SELECT item FROM vectors WHERE matrix = ? ORDER BY slot", (view.id,)
        )]  # fmt: skip
        for start in range(0, len(items), _CHECK_ROWS):
            self._checked(db, view, "item", items[start : start + _CHECK_ROWS])
        if len(items) + len(view.dead) != len(view.rows):
            raise DamagedStoreError(f"rows of {self._directory / view.file} are lost; {REBUILD}")
        return len(items)

    def _by_graph(
        self, view: _View, query: FloatArray, top: int, among: IntArray | None
    ) -> Found | None:
        """Search the graph, and what is newer exactly; None when only an exact search will do."""
        if view.graph is None:
            return None
        alive = len(view.rows) - len(view.dead) if among is None else len(among)
        share = alive / len(view.rows)
        wanted = int(top / max(share, 1e-9)) + _SPARE
        if share < _GRAPH_SHARE or wanted > view.graph.covered // 100:
            return None
        near = view.graph.candidates(query, wanted)
        near = near[_in(near, among) if among is not None else ~_in(near, view.dead)]
        if len(near) < top:
            return None
        newer = nearest_rows(
            view.rows, query, top=top, among=_newer(view, view.graph.covered, among)
        ).slots
        return rescored(view.rows, query, np.concatenate([near, newer]), top=top)

    def _by_rounded(
        self, view: _View, query: FloatArray, top: int, among: IntArray | None
    ) -> Found | None:
        """Search rows rounded in memory, exactly; None when that would not pay."""
        asked = len(view.rows) if among is None else len(among)
        if asked < max(ROUND_FROM, _ROUNDED_SHARE * len(view.rows)):
            return None
        rounded = self._rounded_rows(view)
        if rounded is None:
            return None
        covered = among if among is None else among[: np.searchsorted(among, len(rounded))]
        dead = view.dead[: np.searchsorted(view.dead, len(rounded))]
        near = rounded.candidates(query, top, dead=dead, among=covered)
        near = np.concatenate([near, _newer(view, len(rounded), among)])
        return nearest_rows(view.rows, query, top=top, among=near)

    def _rounded_rows(self, view: _View) -> RoundedRows | None:
        """Rows of this file in memory, from the second time that someone asks for them."""
        with self._rounding:
            if self._rounded_file != view.file:  # a command that asks once reads them only once
                self._rounded_file, self._rounded = view.file, None
                return None
            missing = len(view.rows) - (len(self._rounded) if self._rounded else 0)
            if missing > _ROUNDED_TAIL * len(view.rows):
                self._rounded = RoundedRows.of(view.rows)
            return self._rounded

    def _checked(
        self, db: sqlite3.Connection, view: _View, key: Literal["item", "slot"], keys: Sequence[int]
    ) -> list[tuple[int, int]]:
        """Look up (slot, item) of items or slots, each row checked against its seal."""
        found = db.execute(  # CROSS JOIN: one look-up to a key, whatever the planner thinks
            f"SELECT slot, item, seal, ({_OWNER[self._kind]}) FROM json_each(?) "
            f"CROSS JOIN vectors ON matrix = ? AND {key} = value",
            (json.dumps([*map(int, keys)]), view.id),
        ).fetchall()
        for slot, item, sealed, owner in found:
            if owner is None or slot >= len(view.rows) or seal(owner, view.rows[slot]) != sealed:
                raise DamagedStoreError(
                    f"{self._directory / view.file} is damaged: row {slot} is not the vector of "
                    f"{self._kind} {item}; {REBUILD}"
                )
        if key == "slot" and len(found) < len(keys):
            raise DamagedStoreError(
                f"{self._directory / view.file} holds rows that nobody owns; {REBUILD}"
            )
        return [(slot, item) for slot, item, _, _ in found]

    def _view(self, db: sqlite3.Connection) -> _View:
        """Map the matrix as this snapshot names it; FileNotFoundError if that file is gone."""
        matrix, last = self._matrix(db), self._last
        if last and (last.file, last.revision) == (matrix["file"], matrix["revision"]):
            return last
        dead = db.execute(
            "SELECT slot FROM dead WHERE matrix = ? ORDER BY slot", (matrix["id"],)
        ).fetchall()
        path, slots = self._directory / matrix["file"], matrix["slots"]
        same_graph = last and (last.file, last.graph_file) == (matrix["file"], matrix["graph"])
        view = _View(
            id=matrix["id"],
            file=matrix["file"],
            revision=matrix["revision"],
            rows=map_rows(path, rows=slots, dim=self._model.dim),
            dead=np.array(dead, dtype=np.int64).reshape(-1),
            graph_file=matrix["graph"],
            graph=last.graph if last and same_graph else open_graph(self._directory, matrix),
        )
        self._last = view
        return view

    def _matrix(self, db: sqlite3.Connection) -> sqlite3.Row:
        matrix = self._find(db)
        if matrix is None:
            raise DamagedStoreError(
                f"the index {self._directory} has no vectors of {self._model.name}; {REBUILD}"
            )
        return matrix

    def _find(self, db: sqlite3.Connection) -> sqlite3.Row | None:
        cursor = db.execute(
            "SELECT matrices.*, models.dim, models.fingerprint FROM matrices "
            "JOIN models ON models.id = matrices.model WHERE fingerprint = ? AND kind = ?",
            (self._model.fingerprint, self._kind),
        )
        cursor.row_factory = sqlite3.Row
        found: sqlite3.Row | None = cursor.fetchone()
        return found


def seal(owner: bytes, row: HalfArray) -> int:
    """Return the checksum of a row (D,) float16 and whose it is."""
    return zlib.crc32(row.tobytes(), zlib.crc32(owner))


def bury(
    db: sqlite3.Connection,
    items: Collection[int],
    *,
    kind: Kind | None = None,
    matrix: int | None = None,
    spare: int = -1,
) -> None:
    """Let rows of items die: in one matrix, or in all of a kind but `spare`. In a transaction."""
    which = "id = ?" if matrix is not None else "kind = ? AND id != ?"
    chosen = (matrix,) if matrix is not None else (kind, spare)
    matrices = db.execute(f"SELECT id FROM matrices WHERE {which}", chosen).fetchall()
    for (number,) in matrices:
        doomed = "matrix = ? AND item IN (SELECT value FROM json_each(?))"
        keys = (number, json.dumps([*map(int, items)]))
        db.execute(f"INSERT INTO dead SELECT matrix, slot FROM vectors WHERE {doomed}", keys)
        if db.execute(f"DELETE FROM vectors WHERE {doomed}", keys).rowcount:
            db.execute("UPDATE matrices SET revision = revision + 1 WHERE id = ?", (number,))


def _newer(view: _View, covered: int, among: IntArray | None) -> IntArray:
    """Slots behind the first ones that may be answers, ascending."""
    tail = np.arange(covered, len(view.rows))
    return tail[_in(tail, among) if among is not None else ~_in(tail, view.dead)]


def _in(slots: IntArray, sorted_slots: IntArray) -> NDArray[np.bool_]:
    """Say for each slot whether it is among ascending ones."""
    places = np.searchsorted(sorted_slots, slots)
    places[places == len(sorted_slots)] = 0
    return sorted_slots[places] == slots if len(sorted_slots) else np.zeros(len(slots), dtype=bool)
