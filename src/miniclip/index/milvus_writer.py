"""Changes of the images of an index in Milvus, each as if it were one step.

Milvus knows no transactions, but one message to one collection is seen as a whole. So everything
that a change needs is written where nobody counts it (new slots of vectors, places, captions),
then the rows of the images in one message, which name it; then what nothing names any more goes.
A journal says which images are in the making: whoever writes next after a kill deletes what was
not named, or is not named any more.

There are no locks either. A lock of the operating system keeps out other writers on this machine;
one elsewhere is noticed in the journal, by the first to write after the other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.index.milvus_connection import Connection, Row, one_of
from miniclip.index.milvus_rows import COLUMNS, place_key, record_of, row_of, words_of
from miniclip.index.milvus_schema import NO_VECTOR, Names
from miniclip.index.milvus_texts import Texts
from miniclip.index.milvus_values import Values
from miniclip.index.store import LockedStoreError, NewImage, Place

IMAGE_FIELDS = ("id", *COLUMNS, "models", "slots")
_JOURNAL = "journal"
_AT_ONCE = 1_024  # ids in one expression over a column that is no key


@dataclass
class Journal:
    """The change in hand, and what the next one may begin with.

    ids: images that are written; gone: those that go with them; first_slot: of the change.
    """

    writer: str
    next_id: int = 1
    next_slot: int = 1
    first_slot: int = 1
    ids: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)


class Writer:
    """The one who may change the images; `texts` gives the captions of each model."""

    def __init__(
        self,
        connection: Connection,
        names: Names,
        values: Values,
        texts: Callable[[], Mapping[str, Texts]],
    ) -> None:
        self._connection = connection
        self._names = names
        self._values = values
        self._texts = texts
        self._journal = read_journal(values)
        self._recover()
        self._journal = Journal(uuid.uuid4().hex, self._journal.next_id, self._journal.next_slot)
        self._keep_journal()

    def new_ids(self, count: int) -> range:
        """Return ids that no image ever had."""
        return range(self._journal.next_id, self._journal.next_id + count)

    def occupants(self, places: Sequence[Place], fields: Sequence[str]) -> dict[Place, Row]:
        """Return the rows of the images at these places."""
        keys = {place_key(place): place for place in places}
        found = self._connection.get(self._names.places, "key", keys, ["key", "value"])
        place_of = {int(row["value"]): keys[row["key"]] for row in found}
        images = self._connection.get(self._names.images, "id", place_of, fields)
        # An image may have moved away since it was put there.
        return {
            place_of[row["id"]]: row
            for row in images
            if record_of(row, row["id"]).place == place_of[row["id"]]
        }

    def change(
        self,
        images: Mapping[int, NewImage],
        before: Mapping[int, Row],
        *,
        vectors: Mapping[int, FloatArray],
        model: str,
        gone: Collection[int] = (),
    ) -> None:
        """Write images by id and delete those that are gone, with all that belongs to them.

        before: rows of all these ids that there are. vectors: id -> (D,) by the model of this key;
        other vectors stay with an image whose content does.
        """
        self._begin(images, gone)
        rows = {number: row_of(image) for number, image in images.items()}
        slots = self._write_vectors(rows, before, vectors, model)
        self._connection.put(
            self._names.places,
            [
                {"key": place_key(image.place), "value": str(number), "nothing": NO_VECTOR}
                for number, image in images.items()
            ],
        )
        owners = {text: number for number, row in rows.items() for text in row["captions"]}
        if owners:
            for texts in self._texts().values():
                texts.expect(owners)
        self._connection.put(
            self._names.images,
            [
                {
                    "id": number,
                    **rows[number],
                    "words": words_of(image),
                    "models": list(slots[number]),
                    "slots": list(slots[number].values()),
                }
                for number, image in images.items()
            ],
        )
        self._connection.delete(self._names.images, gone)
        self._sweep(before, rows)
        used = {image.place for image in images.values()}
        left = {record_of(row, number).place for number, row in before.items()} - used
        self._connection.delete(self._names.places, [*map(place_key, left)])

    def close(self) -> None:
        """Say that nothing is in the making."""
        self._begin((), ())

    def _begin(self, images: Collection[int], gone: Collection[int]) -> None:
        """Write down what is about to happen, unless someone else has begun to write."""
        if read_journal(self._values).writer != self._journal.writer:
            raise LockedStoreError(
                f"another process has begun to write to the index {self._connection.target}; "
                "wait until it has ended, then run the same command again: it goes on"
            )
        journal = self._journal
        journal.ids, journal.gone = [*images], [*gone]
        journal.first_slot = journal.next_slot
        journal.next_id = max([journal.next_id - 1, *images]) + 1
        self._keep_journal()

    def _keep_journal(self) -> None:
        self._values.put(_JOURNAL, {"": json.dumps(asdict(self._journal))})

    def _write_vectors(
        self,
        rows: Mapping[int, Row],
        before: Mapping[int, Row],
        vectors: Mapping[int, FloatArray],
        model: str,
    ) -> dict[int, dict[str, int]]:
        """Write a new slot for each vector of each image; return id -> model -> slot."""
        slots: dict[int, dict[str, int]] = {number: {} for number in rows}
        for key in self._texts():
            new = dict(vectors) if key == model else {}
            kept = {
                slot: number
                for number, row in before.items()
                if number in rows and number not in new
                and row["content"] == rows[number]["content"]
                and (slot := slot_of(row, key))
            }  # fmt: skip
            name = self._names.vectors(key)
            for row in self._connection.get(name, "slot", kept, ("slot", "vector")):
                new[kept[row["slot"]]] = np.asarray(row["vector"], dtype=np.float32)
            numbers = range(self._journal.next_slot, self._journal.next_slot + len(new))
            self._journal.next_slot = numbers.stop
            self._connection.add(
                name,
                [
                    {"slot": slot, "image": number, **rows[number], "vector": vector}
                    for slot, (number, vector) in zip(numbers, new.items(), strict=True)
                ],
            )
            for slot, number in zip(numbers, new, strict=True):
                slots[number][key] = slot
        return slots

    def _sweep(self, before: Mapping[int, Row], rows: Mapping[int, Row]) -> None:
        """Delete what images named before a change and do not name any more."""
        lost = {
            text
            for number, row in before.items()
            for text in set(row["captions"]).difference(rows.get(number, {}).get("captions", ()))
        }
        for key, texts in self._texts().items():
            old = [slot for row in before.values() if (slot := slot_of(row, key))]
            self._connection.delete(self._names.vectors(key), old)
            if lost:
                texts.release(lost, before)

    def _recover(self) -> None:
        """End what a killed writer began: all of the change if it was seen, else none of it."""
        journal, images = self._journal, self._names.images
        touched = [*journal.ids, *journal.gone]
        if not touched:
            return
        fields = ("id", "models", "slots")
        rows = {row["id"]: row for row in self._connection.get(images, "id", touched, fields)}
        newest = max(
            (slot for number in journal.ids if number in rows for slot in rows[number]["slots"]),
            default=0,
        )
        if journal.gone and (newest >= journal.first_slot or not journal.ids):
            self._connection.delete(images, journal.gone)
            for number in journal.gone:
                rows.pop(number, None)
        for key, texts in self._texts().items():
            named = {slot_of(row, key) for row in rows.values()}
            name = self._names.vectors(key)
            for start in range(0, len(touched), _AT_ONCE):
                some = touched[start : start + _AT_ONCE]
                found = self._connection.rows(name, one_of("image", some), ["slot"])
                left = [row["slot"] for row in found if row["slot"] not in named]
                self._connection.delete(name, left)
                texts.release_of(some)
                highest = max((row["slot"] for row in found), default=0)
                journal.next_slot = max(journal.next_slot, highest + 1)


def read_journal(values: Values) -> Journal:
    """Return the journal; a new one when nobody ever wrote."""
    found: dict[str, Any] = json.loads(values.get(_JOURNAL).get("", "{}"))
    return Journal(**found) if found else Journal("")


def slot_of(row: Row, model: str) -> int | None:
    """Return the slot that an image's row names for the model of this key."""
    found = dict(zip(row["models"], row["slots"], strict=True))
    return found.get(model)
