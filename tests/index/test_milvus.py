"""What is special about an index in Milvus: kills, addresses, other processes, a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.errors import ConfigError, MissingExtraError, StoreError
from miniclip.index.address import Directory, InMilvus, parse_address
from miniclip.index.filter_rules import holds
from miniclip.index.milvus_connection import Connection
from miniclip.index.milvus_filter import expression
from miniclip.index.milvus_rows import decoded, encoded, record_of, row_of, words
from miniclip.index.milvus_store import MilvusStore, holds_index
from miniclip.index.store import Compare, LockedStoreError, Without
from tests.index.store_values import BEACH, CITY, image, vector, vectors

pytest.importorskip("pymilvus")
server_module = pytest.importorskip("milvus_lite.adapter.grpc.server")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "home"))


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "photos.db")


# Kills


class Killed(BaseException):
    """The process ended here."""


def make(store: MilvusStore) -> None:
    store.upsert(
        [image("a.jpg", 1, captions=("dog",)), image("b.jpg", 2, captions=("dog", "sea"))],
        vectors(1, 2),
    )


def upsert(store: MilvusStore) -> None:
    store.upsert(
        [image("a.jpg", 3, captions=("cat",)), image("c.jpg", 4, captions=("dog",))], vectors(3, 4)
    )


def swap(store: MilvusStore) -> None:
    store.update({1: image("b.jpg", 1, captions=("dog",)), 2: image("a.jpg", 2)})


def move_onto(store: MilvusStore) -> None:
    store.update({1: image("b.jpg", 1, captions=("dog",))})


def delete(store: MilvusStore) -> None:
    store.delete([1, 2])


def state(store: MilvusStore) -> list[Any]:
    """Everything that one can ask a store for, whatever way one asks."""
    ids = store.ids().tolist()
    return [
        store.records(ids),
        store.vectors(ids).tolist(),
        [known.place for known in store.known()],
        [store.nearest(vector(seed), top=9) for seed in range(5)],
        store.full_text("jpg dog cat sea", top=9),
        sorted(store.texts_to_embed(9)),
        store.models(),
        store.count(),
    ]


@pytest.mark.parametrize("change", [upsert, swap, move_onto, delete])
def test_a_change_is_seen_whole_or_not_at_all_wherever_its_writer_is_killed(
    target: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[MilvusStore], None]
) -> None:
    """Let it die behind each of its messages, one after the other; then let another go on."""
    steps = [0]
    plain = Connection._call
    running = Connection.open(target)  # so that Milvus Lite is not started anew each time

    def counted(self: Connection, method: str, *names: str, **options: Any) -> Any:
        if method in ("upsert", "insert", "delete"):
            if not steps[0]:
                raise Killed
            steps[0] -= 1
        return plain(self, method, *names, **options)

    before: list[Any] = []
    after: list[Any] = []
    seen: list[list[Any]] = []
    for last in (0, 99, *range(30)):
        with MilvusStore.open(target, "photos", write=True, rebuild=True) as store:
            store.use_model(CITY)
            store.use_model(BEACH)
            make(store)
            if not before:
                before = state(store)
        store = MilvusStore.open(target, "photos", write=True)
        store.use_model(BEACH)
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "_call", counted)
            steps[0] = last
            try:
                change(store)
                died = False
            except Killed:
                died = True
        store._writer = None  # it does nothing any more
        store.close()
        with MilvusStore.open(target, "photos", write=True) as store:
            store.use_model(BEACH)
            found = state(store)
            if last == 99:
                after = found
                assert after != before
            seen.append(found)
            if last and last != 99 and not died:
                break
    running.close()
    assert all(found in (before, after) for found in seen)
    assert before in seen
    assert len(seen) > 5, "there are fewer messages than that"


def test_what_was_written_survives_the_death_of_its_process(target: str) -> None:
    program = """
import os, signal, sys
from miniclip.index.milvus_store import MilvusStore
from tests.index.store_values import BEACH, image, vectors
store = MilvusStore.open(sys.argv[1], "photos", write=True)
store.use_model(BEACH)
store.upsert([image(f"{n}.jpg", n) for n in range(50)], vectors(*range(50)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, target], check=False, cwd=Path(__file__).parents[2]
    )
    assert ended.returncode == -9

    with MilvusStore.open(target, "photos", write=True) as store:
        store.use_model(BEACH)
        assert store.verify() == 50
        assert store.nearest(vector(7), top=1)[0].id == 8


# Others


def test_milvus_lite_serves_one_process_and_says_what_serves_more(target: str) -> None:
    program = """
import sys
from miniclip.errors import StoreError
from miniclip.index.milvus_store import MilvusStore
try:
    MilvusStore.open(sys.argv[1], "photos")
except StoreError as error:
    print(type(error).__name__, error)
"""
    with MilvusStore.open(target, "photos", write=True):
        shown = subprocess.run(
            [sys.executable, "-c", program, target], capture_output=True, text=True, check=True
        )
    assert "LockedStoreError" in shown.stdout
    assert "milvus-lite server" in shown.stdout


def test_a_second_writer_is_refused_and_one_elsewhere_is_noticed(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with MilvusStore.open(target, "photos", write=True) as store:
        store.use_model(BEACH)
        with pytest.raises(LockedStoreError, match=r"process \d+ .* is writing to the index"):
            MilvusStore.open(target, "photos", write=True)
        MilvusStore.open(target, "others", write=True).close()

        monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "another machine"))
        with MilvusStore.open(target, "photos", write=True) as other:
            other.use_model(BEACH)
            other.upsert([image("b.jpg", 2)], vectors(2))
            with pytest.raises(LockedStoreError, match="another process has begun to write"):
                store.upsert([image("a.jpg", 1)], vectors(1))
        store._writer = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Run a Milvus beside us: here Milvus Lite, behind the protocol of a cluster."""
    served, database, port = server_module.start_server_in_thread(
        str(tmp_path / "served"), host="127.0.0.1", port=0
    )
    yield f"http://127.0.0.1:{port}"
    served.stop(grace=2).wait()
    database.close()


def test_an_index_at_a_server_is_an_index(server: str) -> None:
    address = parse_address(f"milvus:{server}#photos")
    assert not address.exists
    with pytest.raises(StoreError, match=r"no index photos at http.*make one"):
        address.open()
    with MilvusStore.open(server, "photos", write=True) as store:
        store.use_model(BEACH)
        ids = store.upsert([image(f"{n}.jpg", n) for n in range(300)], vectors(*range(300)))
        store.optimise()
        assert address.exists
        with MilvusStore.open(server, "photos") as reader:
            reader.use_model(BEACH)
            assert reader.nearest(vector(5), top=1)[0].id == ids[5]
            assert reader.ids(Compare("size", "<", 3)).tolist() == ids[:3]


def test_a_server_that_is_not_there_is_named(unused_port: int) -> None:
    with pytest.raises(StoreError, match=rf"cannot use the index http://127.0.0.1:{unused_port}"):
        MilvusStore.open(f"http://127.0.0.1:{unused_port}", "photos")


@pytest.fixture
def unused_port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("miniclip.index.milvus_connection.CONNECT_SECONDS", 0.5)
    return 9  # the port of "discard": nobody listens


def test_without_pymilvus_the_extra_is_named(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(MissingExtraError, match=r"miniclip\[milvus\]"):
        MilvusStore.open(target, "photos")


# Addresses


def test_addresses_are_read_as_they_are_written(tmp_path: Path) -> None:
    assert parse_address(f"milvus:{tmp_path}/x.db#a") == InMilvus(f"{tmp_path}/x.db", "a")
    assert parse_address("milvus:http://h:19530/db") == InMilvus("http://h:19530/db")
    assert parse_address(f"sqlite:{tmp_path}") == parse_address(str(tmp_path))
    assert parse_address(str(tmp_path)) == Directory(tmp_path)
    for address in (InMilvus("http://h:1", "a"), InMilvus("/x.db"), Directory(tmp_path)):
        assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "names no store"),
        ("milvus:", "names no store"),
        ("qdrant:http://h", "names no store"),
        ("http://h:19530", "names no store"),
        ("milvus:ftp://h", "no address of Milvus"),
        ("milvus:http://me:secret@h:19530", "keep the password out"),
    ],
)
def test_an_address_that_cannot_be_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_address(wrong)
    assert "secret" not in str(error.value)


def test_a_name_that_milvus_does_not_take_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="no name for an index in Milvus"):
        holds_index(target, "my photos") or MilvusStore.open(target, "my photos")


# Rows


@given(st.binary(max_size=30).map(os.fsdecode))
def test_any_path_is_written_as_text_and_read_again(path: str) -> None:
    encoded(path).encode()
    assert decoded(encoded(path)) == path


def test_an_image_is_made_again_from_its_row() -> None:
    for one in (
        image("a.jpg", 1),
        image("b.jpg", 2, member="\udcff", taken="", camera="", latitude=0.0, longitude=-180.0),
        image("c.jpg", 3, width=1, height=2, captions=("a", "a"), tags=("",)),
    ):
        again = record_of(row_of(one), 7)
        assert {name: getattr(again, name) for name in vars(one)} == vars(one)
    with pytest.raises(StoreError, match="70000 bytes long; Milvus holds 65535"):
        row_of(image("a.jpg", captions=("x" * 70_000,)))
    with pytest.raises(StoreError, match="5000 tags; Milvus holds 4096"):
        row_of(image("a.jpg", tags=("x",) * 5000))


def test_words_have_no_accents_and_are_the_same_for_every_tokenizer() -> None:
    assert words(["Café_au-lait.JPG"]) == "cafe au lait jpg"
    assert words(["狗 Dog"]).split()[1] == "dog"
    assert words(["狗"]).isascii()


@pytest.mark.parametrize(
    "where",
    [
        Compare("caption", "like", "%dog%"),
        Compare("tag", "!=", "dog"),
        Without(Compare("member", "like", "%a%")),
        Compare("path", "like", "%\\%"),
    ],
)
def test_what_milvus_cannot_be_asked_is_decided_here(target: str, where: Any) -> None:
    images = [
        image("a.jpg", 1, captions=("a DOG",), tags=("dog", "sea")),
        image("b\\", 2, member="ab", tags=("dog",)),
        image("c.jpg", 3, captions=("cat",)),
    ]
    assert not expression(where).exact
    with MilvusStore.open(target, "photos", write=True) as store:
        store.use_model(BEACH)
        ids = store.upsert(images, vectors(1, 2, 3))
        expected = [number for number, one in zip(ids, images, strict=True) if holds(where, one)]
        assert expected
        assert store.ids(where).tolist() == expected
        assert store.count(where) == len(expected)
        found = store.nearest(vector(1), top=9, where=where)
        assert sorted(hit.id for hit in found) == expected
        assert sorted(store.full_text("jpg b", top=9, where=where)) == expected


def test_settings_may_be_long_and_become_short_again(target: str) -> None:
    long = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, 100_000)))
    with MilvusStore.open(target, "photos", write=True) as store:
        store.remember({"a:0": long, "b": ""})
        assert store.settings() == {"a:0": long, "b": ""}
        store.remember({"a:0": "short"})
        assert store.settings() == {"a:0": "short", "b": ""}
