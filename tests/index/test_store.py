"""What a store promises, told as stories; whatever implements `Store` passes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniclip.arrays import FloatArray
from miniclip.errors import ConfigError, StoreError
from miniclip.index.store import (
    Below,
    Compare,
    Either,
    Exists,
    Filter,
    NewImage,
    UnknownModelError,
    Without,
)
from tests.index.store_kinds import KINDS, AnyStore, Home
from tests.index.store_values import BEACH, CITY, DIM, image, vector, vectors


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "home"))
    return KINDS[request.param].in_(tmp_path)


@pytest.fixture
def store(home: Home) -> Iterator[AnyStore]:
    with home.open(write=True) as store:
        store.use_model(BEACH)
        yield store


def test_what_was_written_is_read_by_another_and_after_closing(home: Home) -> None:
    photo = image(
        "2024/beach.jpg",
        7,
        member="",
        width=640,
        height=480,
        taken="2024-05-01T12:30:00",
        camera="NIKON D90",
        latitude=-33.9,
        longitude=18.4,
        captions=("a dog on the beach", "surf"),
        tags=("holiday", "dog"),
    )
    with home.open(write=True) as store:
        store.use_model(BEACH)
        (number,) = store.upsert([photo], vectors(7))
        store.remember({"roots": '["2024"]'})
        with home.read() as reader:
            before = reader.records([number])
    with home.read() as reader:
        after = reader.records([number])
        assert reader.settings() == {"roots": '["2024"]'}
        assert reader.models() == {BEACH: 1}
        np.testing.assert_allclose(reader.vectors([number]), vectors(7), atol=1e-3)

    (record,) = before
    assert after == before
    assert NewImage(**{name: getattr(record, name) for name in vars(photo)}) == photo


def test_an_image_at_the_same_place_is_replaced_and_keeps_its_number(store: AnyStore) -> None:
    old = store.upsert([image("a.jpg", 1, captions=("old",)), image("b.jpg", 2)], vectors(1, 2))
    new = store.upsert([image("a.jpg", 3, captions=("new",))], vectors(3))

    assert new == old[:1]
    assert store.count() == 2
    assert store.records(new)[0].captions == ("new",)
    assert store.nearest(vector(3), top=1)[0].cosine == pytest.approx(1, abs=1e-3)
    assert store.nearest(vector(1), top=2)[0].cosine < 0.9
    assert store.full_text("old", top=5) == []


def test_moving_keeps_the_vector_and_two_may_change_places(store: AnyStore) -> None:
    a, b = store.upsert([image("a.jpg", 1), image("b.jpg", 2)], vectors(1, 2))

    store.update({a: image("b.jpg", 1), b: image("a.jpg", 2, captions=("now a",))})

    assert [known.place.path for known in store.known()] == ["a.jpg", "b.jpg"]
    assert store.nearest(vector(1), top=1)[0].id == a
    assert store.records([a])[0].path == "b.jpg"
    assert store.full_text("now", top=5) == [b]


def test_moving_onto_another_image_takes_its_place(store: AnyStore) -> None:
    a, b = store.upsert([image("a.jpg", 1), image("b.jpg", 2)], vectors(1, 2))

    store.update({a: image("b.jpg", 1)})

    assert store.ids().tolist() == [a]
    assert [hit.id for hit in store.nearest(vector(2), top=5)] == [a]
    assert store.records([b]) == []


def test_an_update_may_not_smuggle_in_another_content(store: AnyStore) -> None:
    (a,) = store.upsert([image("a.jpg", 1)], vectors(1))

    with pytest.raises(StoreError, match=r"another content.*upsert"):
        store.update({a: image("a.jpg", 2)})
    with pytest.raises(StoreError, match="does not exist"):
        store.update({a + 1: image("c.jpg", 2)})


def test_one_place_twice_in_a_batch_is_refused_and_nothing_is_written(store: AnyStore) -> None:
    with pytest.raises(StoreError, match=r"a\.jpg.* 2 times"):
        store.upsert([image("a.jpg", 1), image("a.jpg", 2)], vectors(1, 2))

    assert store.count() == 0


def test_members_of_an_archive_are_images_of_their_own(store: AnyStore) -> None:
    members = [image("all.tar", number, member=f"{number}.jpg") for number in range(3)]
    store.upsert([*members, image("all.tarred.jpg", 9)], vectors(0, 1, 2, 9))

    assert store.count(Below("all.tar")) == 3
    assert store.count(Compare("member", "like", "%.jpg")) == 3


def test_models_live_side_by_side_and_are_never_mixed(home: Home) -> None:
    with home.open(write=True) as store:
        store.use_model(BEACH)
        ids = store.upsert([image("a.jpg", 1), image("b.jpg", 2)], vectors(1, 2))
        store.use_model(CITY)
        assert [known.embedded for known in store.known()] == [False, False]
        assert store.nearest(vector(1), top=5) == []
        store.upsert([image("a.jpg", 1)], vectors(11))

        assert [hit.id for hit in store.nearest(vector(11), top=5)] == ids[:1]
        with pytest.raises(StoreError, match="no vector of the model city-model"):
            store.vectors(ids)
        with home.read() as reader:
            assert len(reader.nearest(vector(1), top=5)) == 2
        assert store.models() == {BEACH: 2, CITY: 1}

        # Another content: what the other model saw is not there any more.
        store.upsert([image("a.jpg", 3)], vectors(13))
        assert store.models() == {BEACH: 1, CITY: 1}


def test_searching_with_a_model_that_the_index_does_not_hold_is_refused_by_name(
    store: AnyStore, home: Home
) -> None:
    with home.open() as reader:
        with pytest.raises(UnknownModelError, match=r"holds vectors of beach-model, not of city"):
            reader.use_model(CITY)
        with pytest.raises(StoreError, match="use_model first"):
            reader.nearest(vector(1), top=1)
    with pytest.raises(StoreError, match=r"beach-model makes vectors of 8 .* have 16"):
        store.use_model(replace(BEACH, dim=8))


def test_captions_are_found_by_vector_and_go_with_their_last_image(store: AnyStore) -> None:
    a, b = store.upsert(
        [image("a.jpg", 1, captions=("dog", "surf")), image("b.jpg", 2, captions=("dog",))],
        vectors(1, 2),
    )
    assert store.texts_to_embed(10) == ["dog", "surf"]
    store.add_text_vectors(["dog", "surf", "nobody's"], vectors(5, 6, 7))
    assert store.texts_to_embed(10) == []
    assert store.nearest_texts(vector(6), top=9)[0].text == "surf"

    store.delete([a])

    assert [found.text for found in store.nearest_texts(vector(6), top=9)] == ["dog"]
    store.delete([b])
    assert store.nearest_texts(vector(6), top=9) == []


def test_excluded_images_make_room_for_the_next(store: AnyStore) -> None:
    ids = store.upsert([image(f"{n}.jpg", n) for n in range(9)], vectors(*range(9)))
    everything = store.nearest(vector(0), top=9)

    assert store.nearest(vector(0), top=3, exclude=[ids[0]]) == everything[1:4]


def test_equal_images_come_in_the_order_of_their_numbers(store: AnyStore) -> None:
    store.upsert([image("new.jpg", 5)], vectors(5))
    ids = store.upsert([image(f"{n}.jpg", 3) for n in range(200)], vectors(*[3] * 200))
    store.upsert([image("0.jpg", 3)], vectors(3))  # now in the last row of the file

    assert [hit.id for hit in store.nearest(vector(3), top=50)] == ids[:50]


@pytest.mark.parametrize(
    "words",
    ['"', "a* NOT", "NEAR(a b)", "x AND", "{a}: b", "-", "''; DROP TABLE images", "\0", " "],
)
def test_full_text_is_words_and_no_language(store: AnyStore, words: str) -> None:
    store.upsert([image("café/Grand Canal.jpg", 1, captions=("a red boat",))], vectors(1))

    store.full_text(words, top=3)

    assert store.full_text(f"{words} BOAT", top=3) == [1]
    assert store.full_text("CAFE", top=3) == [1]  # of the place, and without the accent
    assert store.full_text("plane", top=3) == []


HOSTILE_PATHS = [
    "new\nline.jpg",
    "quote'\"; DROP TABLE images; --.jpg",
    "right\u202eto\u2066left.jpg",
    os.fsdecode(b"not utf-8 \xff\xfe.jpg"),
    "/".join(["deep" * 20] * 50)[:4000],
    "%like_.jpg",
    "\ud83d\ude00.jpg".encode("utf-16", "surrogatepass").decode("utf-16"),
    "ends with space ",
    "-",
]


def test_any_file_name_is_kept_to_the_byte(store: AnyStore, home: Home) -> None:
    seeds = range(len(HOSTILE_PATHS))
    ids = store.upsert(
        [image(path, seed) for path, seed in zip(HOSTILE_PATHS, seeds, strict=True)],
        vectors(*seeds),
    )
    with home.read() as reader:
        for path, number, seed in zip(HOSTILE_PATHS, ids, seeds, strict=True):
            assert reader.records([number])[0].path == path
            assert reader.ids(Compare("path", "=", path)).tolist() == [number]
            assert reader.ids(Below(path)).tolist() == [number]
            assert reader.nearest(vector(seed), top=1)[0].id == number
        assert [known.place.path for known in reader.known()] == sorted(
            HOSTILE_PATHS, key=os.fsencode
        )


def test_captions_and_cameras_that_are_no_unicode_are_kept_as_far_as_possible(
    store: AnyStore,
) -> None:
    (a,) = store.upsert([image("a.jpg", 1, captions=("lone \ud800",), camera="\udcff")], vectors(1))

    assert store.records([a])[0].captions == ("lone ?",)
    assert store.records([a])[0].camera == "?"
    store.add_text_vectors(store.texts_to_embed(9), vectors(1))
    assert store.nearest_texts(vector(1), top=1)[0].text == "lone ?"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full((1, DIM), np.nan, np.float32), "length nan"),
        (np.zeros((1, DIM), np.float32), "length 0"),
        (np.ones((1, DIM), np.float32), "length 4"),
        (vectors(1, 2), r"\(2, 16\) vectors for 1 items"),
        (np.ones((1, 3), np.float32), "16 numbers"),
    ],
)
def test_vectors_that_cannot_be_are_refused(
    store: AnyStore, wrong: FloatArray, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.upsert([image("a.jpg", 1)], wrong)
    assert store.count() == 0


@pytest.mark.parametrize("query", [np.ones(3, np.float32), np.full(DIM, np.nan, np.float32)])
def test_a_query_of_another_model_is_refused(store: AnyStore, query: FloatArray) -> None:
    store.upsert([image("a.jpg", 1)], vectors(1))
    with pytest.raises(StoreError, match="16 finite numbers"):
        store.nearest(query, top=1)


def test_a_filter_that_makes_no_sense_is_refused(store: AnyStore) -> None:
    deep: Filter = Exists("taken")
    for _ in range(5000):
        deep = Without(deep)
    for wrong in (
        Compare("size; DROP TABLE images", "=", 1),  # type: ignore[arg-type]
        Compare("size", "= 1 OR 1", 1),  # type: ignore[arg-type]
        Compare("size", "like", 1),
        Compare("size", "=", "1"),
        Compare("taken", "=", 2024),
        Compare("size", "=", 1 << 70),
        Compare("size", "=", float("nan")),
        Compare("camera", "=", "\ud800"),
        Exists("nothing"),  # type: ignore[arg-type]
        deep,
        Either(tuple(Compare("size", "=", number) for number in range(2_000))),
    ):
        with pytest.raises(ConfigError):
            store.count(wrong)
    assert store.count(Either(tuple(Compare("size", "=", n) for n in range(900)))) == 0


def test_ids_of_the_deleted_are_not_given_again(store: AnyStore) -> None:
    (first,) = store.upsert([image("a.jpg", 1)], vectors(1))
    store.delete([first, 99])

    assert store.upsert([image("b.jpg", 2)], vectors(2)) == [first + 1]


def test_threads_share_one_store(store: AnyStore) -> None:
    """Four threads search while one writes; every answer is whole."""
    store.upsert([image(f"{n}.jpg", n) for n in range(50)], vectors(*range(50)))
    wrong: list[object] = []
    done = threading.Event()

    def search(seed: int) -> None:
        try:
            while not done.is_set():
                (best,) = store.nearest(vector(seed), top=1)
                if best.id != seed + 1 or best.cosine < 0.99:
                    wrong.append(best)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for seed in range(50, 60):
        store.upsert([image(f"{seed}.jpg", seed)], vectors(seed))
        store.delete(store.ids()[20:25].tolist())
        store.optimise()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_reader_may_not_write_and_a_closed_store_does_nothing(
    store: AnyStore, home: Home
) -> None:
    reader = home.read()
    with pytest.raises(StoreError, match="for reading only"):
        reader.upsert([image("a.jpg", 1)], vectors(1))
    reader.close()
    reader.close()
    with pytest.raises(StoreError, match="closed"):
        reader.count()
