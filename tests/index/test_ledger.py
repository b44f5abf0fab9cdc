"""What a comparison remembers on the disk: the same as sets and dictionaries in memory would."""

from __future__ import annotations

import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miniclip.errors import StoreError
from miniclip.index.compare import inside
from miniclip.index.ledger import Ledger, place_key
from miniclip.index.roll_call import RollCall
from miniclip.index.scratch import scratch
from miniclip.index.sources import Seen, State
from miniclip.index.store import Known, Place
from miniclip.index.todo import Todo

ODD = os.fsdecode(b"a/\xff.jpg")
# In the order of bytes "a b", "a-b" and "a.jpg" come between "a" and what is in it.
PATHS = ["a", "a b/x.jpg", "a-b/x.jpg", "a.jpg", "a/é.jpg", "a/b/x.jpg", "a/😀.jpg", ODD, "b.jpg"]
PLACES = [Place(path, member) for path in PATHS for member in ("", "1", "10", "2")]


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with scratch() as db:
        yield db


def known(number: int, place: Place, *, content: bytes = b"", embedded: bool = True) -> Known:
    return Known(number, place, 1000 + number, 7, content, embedded)


def places(pages: Iterator[list[Known]]) -> list[Place]:
    return [image.place for page in pages for image in page]


@pytest.mark.parametrize("seed", range(30))
def test_a_roll_call_finds_in_any_order_what_sets_find(db: sqlite3.Connection, seed: int) -> None:
    rng = np.random.default_rng(seed)
    indexed = {place: known(n, place) for n, place in enumerate(PLACES) if rng.random() < 0.7}
    stale = {place for place in indexed if rng.random() < 0.2}
    listed = [place for place in PLACES if rng.random() < 0.7]
    if seed % 3:  # as folders are listed: nearly in order, or not at all
        rng.shuffle(listed)
    ledger = Ledger(db, "known")
    roll = RollCall(iter(sorted(indexed.values(), key=lambda one: place_key(one.place))), ledger)

    same = {
        place
        for place in listed
        if roll.meet(place, indexed[place].size if place in indexed else 1, 7 + (place in stale))
    }
    roll.finish()

    missed = indexed.keys() - set(listed)
    folders = ["a", "b.jpg"] if seed % 2 else ["."]
    assert same == (indexed.keys() & set(listed)) - stale
    assert ledger.expect(folders) == len(places(ledger.missed()))
    assert set(places(ledger.missed())) == {p for p in missed if inside(p.path, folders)}

    ledger.complete(indexed.values())
    assert {place: ledger.at(place) for place in indexed} == indexed
    assert set(places(ledger.missed())) == {p for p in missed if inside(p.path, folders)}


@pytest.mark.parametrize("folder", [".", "a", "a/b", "a.jpg", "a/b/x.jpg", "nowhere"])
def test_a_folder_holds_itself_and_what_is_below_it(db: sqlite3.Connection, folder: str) -> None:
    ledger = Ledger(db, "known")
    ledger.add(known(number, place) for number, place in enumerate(PLACES))

    expected = [place for place in PLACES if inside(place.path, [folder])]

    assert places(ledger.below(folder)) == sorted(expected, key=place_key)


def test_the_twins_of_a_content_are_those_without_a_file(db: sqlite3.Connection) -> None:
    one, two, three, four, five = (Place(f"{name}.jpg") for name in "abcde")
    ledger = Ledger(db, "known")
    vanished = [known(n, place, content=b"same") for n, place in enumerate((one, two))]
    ledger.add(vanished, met=False)
    ledger.add([known(3, three, content=b"same", embedded=False)], met=False)
    ledger.add([known(4, four, content=b"same"), known(5, five, content=b"other")])
    ledger.expect(["."])

    assert ledger.twins(b"same") == vanished
    ledger.find(one)
    ledger.lose(four)
    assert ledger.twins(b"same") == vanished[1:]
    assert places(ledger.missed()) == [two, three, four]
    assert ledger.excuse(["."]) == 2  # a file that cannot be read is no folder's fault
    assert places(ledger.missed()) == [four]


def test_a_content_is_found_until_it_is_overwritten(db: sqlite3.Connection) -> None:
    place = Place("a.jpg")
    ledger = Ledger(db, "known")
    ledger.add([known(1, place, content=b"old")])

    assert ledger.of(b"old") == known(1, place, content=b"old")
    ledger.add([known(1, place, content=b"new")])
    assert ledger.of(b"old") is None
    assert ledger.of(b"new") == known(1, place, content=b"new")
    ledger.remove([place])
    assert (ledger.of(b"new"), ledger.at(place), len(ledger)) == (None, None, 0)


def test_a_list_to_do_keeps_everything_in_order(db: sqlite3.Connection) -> None:
    todo = Todo(db)
    seen = [
        Seen(Path("/z.tar"), State(1, -2, 2**62), "b", 512, 100),
        Seen(Path("/z.tar"), State(1, -2, 2**62), "a", 2**40, 1),
        Seen(Path(f"/{ODD}"), State(0, 0, 0)),
        *(Seen(Path(f"/{number}.jpg"), State(number, 1, 2)) for number in range(3000)),
    ]
    for one in seen:
        todo.append(one)

    assert list(todo) == seen
    for number, one in todo.numbered():
        if one.member or one.state.size % 2:
            todo.remove([number])
    assert list(todo) == [one for one in seen if not (one.member or one.state.size % 2)]
    assert len(todo) == 1501


def test_memory_does_not_grow_with_the_images() -> None:
    def peak(count: int) -> int:
        images = (
            Known(number, Place(f"/photos/{number:09}.jpg"), 1, 2, b"%032d" % number, True)
            for number in range(count)
        )
        one = Seen(Path("/photos.tar"), State(1, 2, 3))  # one path: pathlib remembers its parts
        with scratch() as db:
            ledger, todo = Ledger(db, "known"), Todo(db)
            tracemalloc.start()
            RollCall(images, ledger).finish()
            ledger.expect(["/photos"])
            for page in ledger.missed():
                for image in page:
                    todo.append(one._replace(member=image.place.path))
            assert sum(1 for _ in todo) == count
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    peak(100)  # what is made once
    assert (peak(20_000) - peak(5_000)) / 15_000 < 50  # bytes; in lists it would be 600


def test_a_full_disk_is_told_with_a_cure() -> None:
    def fill() -> None:
        with scratch() as db:
            db.execute("PRAGMA max_page_count = 10")
            images = (known(number, Place(f"{number:0100}.jpg")) for number in range(10_000))
            Ledger(db, "known").add(images)

    with pytest.raises(StoreError, match=r"temporary files .*full.*TMPDIR"):
        fill()
