"""Questions to an index of coloured pictures, of every kind: pages, cuts, copies, words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miniclip.arrays import FloatArray, unit_rows
from miniclip.errors import ConfigError
from miniclip.index.ask import Answer, Question, ask, spelled_out
from miniclip.index.loose import LooseFiles
from miniclip.index.query import parse_query
from miniclip.index.relevance import Relevance
from miniclip.index.store import Below, ImageRecord, Model, NewImage
from miniclip.testing import COLOURS, FakeEncoder
from tests.index.store_kinds import KINDS, AnyStore

ENCODER = FakeEncoder()


def colour_vectors() -> FloatArray:
    """Of each colour, a pure picture and one mixed with grey."""
    pure = ENCODER.encode_texts(list(COLOURS))
    (grey,) = ENCODER.encode_texts(["grey"])
    return np.concatenate([pure, unit_rows(pure + 0.8 * grey)])


NAMES = [f"{kind}/{colour}.png" for kind in ("pure", "mixed") for colour in COLOURS]


@pytest.fixture(scope="module", params=KINDS)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnyStore]:
    """Fill an index once, for tests that leave it as it is."""
    directory = tmp_path_factory.mktemp("asked")
    home = KINDS[request.param].in_(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(directory / "home"))
        store = home.open(write=True)
    with store:
        store.use_model(Model(ENCODER.fingerprint, ENCODER.name, ENCODER.embedding_dim))
        images = [
            NewImage(
                path=name,
                content=bytes([number]) * 32,
                size=1,
                mtime_ns=0,
                captions=(f"a {Path(name).stem} sky over the hills",),
            )
            for number, name in enumerate(NAMES)
        ]
        store.upsert(images, colour_vectors())
        yield store


@pytest.fixture
def twins(store: AnyStore) -> Iterator[set[str]]:
    """Put more pictures of pure red there, for a while."""
    images = [
        NewImage(path=f"twin{n}.png", content=bytes([90 + n]) * 32, size=1, mtime_ns=0)
        for n in range(3)
    ]
    row = colour_vectors()[list(COLOURS).index("red")]
    ids = store.upsert(images, np.stack([row] * 3))
    yield {image.path for image in images}
    store.delete(ids)


def question(words: str, **options: object) -> Question:
    return Question.of(ENCODER, parse_query(words), **options)


def paths(answer: Answer) -> list[str]:
    return [hit.record.path for hit in answer.hits]


def test_hits_come_by_cosine_page_by_page(store: AnyStore) -> None:
    (query,) = ENCODER.encode_texts(["red"])
    cosines = colour_vectors() @ query
    order = [NAMES[row] for row in np.argsort(-cosines, kind="stable")]

    pages = [ask(store, question("red", top=9, skip=skip), None) for skip in (0, 9, 18, 27)]

    found = [path for page in pages for path in paths(page)]
    assert found[:2] == order[:2] == ["pure/red.png", "mixed/red.png"]
    assert sorted(found) == sorted(order)
    assert [page.more for page in pages] == [True, True, False, False]
    assert all(hit.confidence is None for page in pages for hit in page.hits)


def test_what_does_not_match_is_cut_and_the_closest_is_named(store: AnyStore) -> None:
    judge = Relevance.of(ENCODER)

    red = ask(store, question("red", min_confidence=0.5), judge)
    nothing = ask(store, question("the quick zebra", min_confidence=0.5), judge)
    everything = ask(store, question("the quick zebra", top=30), judge)

    assert paths(red) == ["pure/red.png", "mixed/red.png"]
    assert red.closest is None
    assert nothing.hits == ()
    assert nothing.closest is not None
    assert (nothing.closest.confidence or 0) < 0.5
    assert len(everything.hits) == len(NAMES)


def test_confidence_says_whether_and_never_in_which_order(store: AnyStore) -> None:
    judge = Relevance.of(ENCODER)

    everything = ask(store, question("red", top=30), judge).hits
    written = ask(store, question("sky hills", by="text", top=30), judge).hits
    unjudged = ask(store, question("red", top=30), None).hits

    cosines = [hit.cosine for hit in everything]
    assert cosines == sorted(cosines, reverse=True)
    assert [hit.record.path for hit in everything if not hit.doubtful] == [
        "pure/red.png",
        "mixed/red.png",
    ]
    assert not any(hit.doubtful for hit in (*written, *unjudged))


def test_confidence_is_judged_by_what_is_wanted_and_not_by_what_is_not(store: AnyStore) -> None:
    judge = Relevance.of(ENCODER)

    plain, less = (
        {hit.record.path: hit.confidence for hit in ask(store, question(words, top=30), judge).hits}
        for words in ("red", "red -grey")
    )

    assert plain == less


def test_a_search_deep_behind_the_cut_finds_all_that_match(store: AnyStore) -> None:
    judge = Relevance.of(ENCODER)
    vector = unit_rows(ENCODER.encode_texts(["red", "blue"]).sum(axis=0))
    asked = Question(
        vector=vector, wanted=ENCODER.encode_texts(["blue"])[0], top=1, min_confidence=0.5, skip=1
    )

    assert paths(ask(store, asked, judge)) == ["mixed/blue.png"]


def test_near_duplicates_fold_into_the_better_hit(store: AnyStore, twins: set[str]) -> None:
    answer = ask(store, question("red", top=2, near_duplicates=True), None)

    assert paths(answer) == ["pure/red.png", "mixed/red.png"]
    assert {image.path for image in answer.hits[0].alike} == twins
    assert answer.hits[1].alike == ()


def test_words_find_captions_and_both_join_the_rankings(store: AnyStore) -> None:
    by_words = ask(store, question("green hills", by="text", top=2), None)
    by_both = ask(store, question("green hills", by="both", top=2), None)

    assert {Path(path).stem for path in paths(by_words)} == {"green"}
    assert paths(by_both) == ["pure/green.png", "mixed/green.png"]


def test_an_image_that_spells_it_out_is_a_match_whatever_it_shows(store: AnyStore) -> None:
    judge = Relevance.of(ENCODER)

    written = ask(store, question("sky hills", by="both", min_confidence=0.99, top=30), judge)
    unwritten = ask(store, question("zebra hills", by="both", min_confidence=0.99), judge)

    assert len(written.hits) == len(NAMES)
    assert unwritten.hits == ()


def test_a_filter_and_a_list_of_ids_leave_images_out(store: AnyStore) -> None:
    mixed = ask(store, question("red", where=Below("mixed"), top=30), None)
    (best, *_) = mixed.hits
    rest = ask(store, question("red", exclude=[best.record.id], top=30), None)

    assert {Path(path).parent.name for path in paths(mixed)} == {"mixed"}
    assert len(rest.hits) == len(NAMES) - 1


def test_spelled_out_needs_every_word_of_three_letters() -> None:
    image = ImageRecord(
        id=1, path="2024/Rome-trip/a.jpg", content=b"", size=0, mtime_ns=0, captions=("Old bridge",)
    )

    assert spelled_out(image, "a BRIDGE in rome")
    assert not spelled_out(image, "a bridge in paris")
    assert not spelled_out(image, "a b")


def test_loose_files_answer_the_same_and_refuse_what_needs_an_index() -> None:
    files = LooseFiles([Path(name) for name in NAMES], colour_vectors())

    answer = ask(files, question("red", top=2, min_confidence=0.5), Relevance.of(ENCODER))

    assert paths(answer) == ["pure/red.png", "mixed/red.png"]
    assert len(ask(files, question("red", exclude=[1], top=99), None).hits) == len(NAMES) - 1
    for options in ({"by": "text"}, {"where": Below("pure")}):
        with pytest.raises(ConfigError, match="needs an index"):
            ask(files, question("red", **options), None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top": 0}, "top is 0"),
        ({"skip": -1}, "skip -1"),
        ({"min_confidence": 1.5}, "from 0 to 1"),
    ],
)
def test_questions_that_make_no_sense_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        question("red", **options)


def test_a_search_by_words_needs_some() -> None:
    with pytest.raises(ConfigError, match="searching by both needs words"):
        Question(vector=np.ones(4, np.float32), by="both")
