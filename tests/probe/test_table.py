"""The feature table: complete, in order, computed once, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.embed import embed_all
from miniclip.encoder import ImageVectors
from miniclip.errors import ConfigError
from miniclip.images import ImageSource, decode
from miniclip.index.vector_cache import VectorCache
from miniclip.probe import table as module
from miniclip.probe.facts import read_facts
from miniclip.probe.table import FeatureTable, read_table
from miniclip.testing import COLOURS, FakeEncoder, picture
from miniclip.views import PLAIN, named_views

FLIPPED = named_views("plain,flip")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path / "vectors.sqlite3") as cache:
        yield cache


@pytest.fixture
def photos(tmp_path: Path) -> list[ImageSource]:
    """One photo of each colour, its left half black."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in COLOURS:
        image = picture(colour)
        image.paste((0, 0, 0), (0, 0, 16, 24))
        image.save(folder / f"{colour}.png")
        os.utime(folder / f"{colour}.png", (1_600_000_000, 1_600_000_000))
    return [ImageSource(path.name, path=path) for path in sorted(folder.iterdir())]


def run(sources: Sequence[ImageSource], cache: VectorCache, **options: Any) -> FeatureTable:
    return read_table(FakeEncoder(), sources, cache, **options)


def assert_equal(one: FeatureTable, other: FeatureTable) -> None:
    assert replace(one, features=0, embeddings=0, computed=0) == replace(  # type: ignore[arg-type]
        other,
        features=0,  # type: ignore[arg-type]
        embeddings=0,  # type: ignore[arg-type]
        computed=0,
    )
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_the_table_holds_what_plain_embedding_gives(
    photos: list[ImageSource], cache: VectorCache
) -> None:
    plain = embed_all(FakeEncoder(), photos)
    flipped = embed_all(FakeEncoder(), photos, view=FLIPPED[1])

    first, second = run(photos, cache, views=FLIPPED), run(photos, cache, views=FLIPPED)

    assert (first.computed, second.computed) == (2 * len(photos), 0)
    assert_equal(first, second)
    assert first.names == plain.names
    assert first.paths == tuple(source.path for source in photos)
    np.testing.assert_array_equal(first.features[0], plain.features)
    np.testing.assert_array_equal(first.features[1], flipped.features)
    np.testing.assert_array_equal(first.embeddings, plain.embeddings)
    assert not np.array_equal(first.features[0], first.features[1])
    assert first.facts == tuple(read_facts(source) for source in photos)


def test_another_view_later_computes_that_view_only(
    photos: list[ImageSource], cache: VectorCache
) -> None:
    run(photos, cache)
    assert run(photos, cache, views=FLIPPED).computed == len(photos)


def test_vectors_that_a_search_has_cached_get_their_features(
    photos: list[ImageSource], cache: VectorCache
) -> None:
    run(photos, cache)
    whole = run(photos, cache)
    with VectorCache.open(cache._path.with_name("other.sqlite3")) as other:
        contents = [bytes.fromhex(content) for content in whole.contents]
        vectors = dict(zip(contents, whole.embeddings, strict=True))
        other.store(FakeEncoder().fingerprint, vectors)
        assert_equal(run(photos, other), whole)


def test_facts_of_another_version_are_gathered_without_the_model(
    photos: list[ImageSource], cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(photos, cache)
    monkeypatch.setattr(module, "FACTS_VERSION", 1_000)

    after = run(photos, cache)

    assert after.computed == 0
    assert_equal(after, before)
    monkeypatch.setattr(module, "read_facts", lambda _: pytest.fail("gathered again"))
    assert_equal(run(photos, cache), before)


def test_broken_images_are_named_and_the_rest_stays_in_order(
    photos: list[ImageSource], cache: VectorCache, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    bad = [
        ImageSource("empty.jpg", path=tmp_path / "empty.jpg"),
        ImageSource("gone.jpg", path=tmp_path / "gone.jpg"),
        ImageSource("cut.png", data=(photos[0].path or Path()).read_bytes()[:50]),
    ]
    mixed = [bad[0], *photos[:4], bad[1], *photos[4:], bad[2]]
    whole = run(photos, cache)

    for _ in range(2):
        table = run(mixed, cache, views=FLIPPED)

        assert table.names == whole.names
        np.testing.assert_array_equal(table.features[0], whole.features[0])
        assert len(table.facts) == len(table.contents) == len(photos)
        assert [entry.name for entry in table.skipped] == ["empty.jpg", "gone.jpg", "cut.png"]
        assert "0 bytes" in table.skipped[0].reason


def test_nothing_but_broken_images_gives_an_empty_table(cache: VectorCache) -> None:
    table = run([ImageSource("a.png", data=b"no image")], cache)
    assert len(table) == 0
    assert table.features.shape == (1, 0, FakeEncoder().feature_dim)
    assert len(table.skipped) == 1
    assert len(run([], cache)) == 0


def test_equal_contents_are_computed_once(
    photos: list[ImageSource], cache: VectorCache, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(photos[0].path or Path(), copy)
    data = (photos[0].path or Path()).read_bytes()
    whole = tmp_path / "shard.bin"
    whole.write_bytes(b"head" + data + b"tail")
    sources = [
        photos[0],
        ImageSource("copy.png", path=copy),
        ImageSource("bytes.png", data=data),
        ImageSource("member.png", path=whole, offset=4, size=len(data)),
    ]
    table = run(sources, cache)
    assert table.computed == 1
    assert len(set(table.contents)) == 1
    assert len({row.tobytes() for row in table.features[0]}) == 1


def test_a_file_whose_bytes_change_gets_new_features(
    photos: list[ImageSource], cache: VectorCache
) -> None:
    before = run(photos[:1], cache)
    picture("yellow").save(photos[0].path or Path())
    after = run(photos[:1], cache)
    assert after.computed == 1
    assert after.contents != before.contents
    assert not np.array_equal(after.features, before.features)


def test_a_file_that_changes_while_it_is_read_is_left_out(
    photos: list[ImageSource], cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(source: ImageSource, **options: Any) -> Image.Image:
        if source.name == photos[2].name:
            picture("pink").save(source.path or Path())
        return decode(source, **options)

    with monkeypatch.context() as patch:
        patch.setattr("miniclip.embed.decode", overtaken)
        table = run(photos, cache)
    assert [(entry.name, entry.reason) for entry in table.skipped] == [
        (photos[2].name, module.CHANGED)
    ]
    assert len(run(photos, cache)) == len(photos)


def test_a_stopped_run_loses_one_batch_and_ends_the_same(
    tmp_path: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []
    for number in range(80):
        path = tmp_path / f"{number:02}.png"
        picture("red", (20, 20 + number)).save(path)
        sources.append(ImageSource(path.name, path=path))
    encode = FakeEncoder.encode_pixels
    batches: list[int] = []

    def stop_at_the_third(encoder: FakeEncoder, pixels: FloatArray) -> ImageVectors:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(pixels))
        return encode(encoder, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEncoder, "encode_pixels", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(sources, cache)

    resumed = run(sources, cache)
    assert resumed.computed == 16
    with VectorCache.open(tmp_path / "fresh.sqlite3") as fresh:
        assert_equal(resumed, run(sources, fresh))


def test_progress_counts_every_image_of_every_view(
    photos: list[ImageSource], cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_UP", 4)
    sources = [*photos, ImageSource("bad.png", data=b"no")]
    run(photos[:3], cache)
    seen: list[int] = []
    run(sources, cache, views=FLIPPED, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 2 * len(sources)


def test_some_rows_of_a_table(photos: list[ImageSource], cache: VectorCache) -> None:
    table = run(photos, cache, views=FLIPPED)
    some = table.rows(np.array([3, 0]))
    assert some.names == (table.names[3], table.names[0])
    assert some.facts == (table.facts[3], table.facts[0])
    np.testing.assert_array_equal(some.features, table.features[:, [3, 0]])
    chosen = np.arange(len(table)) % 2 == 0
    assert table.rows(chosen).contents == table.contents[::2]


def test_what_would_mix_rows_up_is_refused(photos: list[ImageSource], cache: VectorCache) -> None:
    with pytest.raises(ConfigError, match="first view has to be the plain one"):
        run(photos, cache, views=FLIPPED[1:])
    with pytest.raises(ConfigError, match=r"two images are called a\.png"):
        run([ImageSource("a.png", data=b"1"), ImageSource("a.png", data=b"2")], cache)
    assert len(run([photos[0], photos[0]], cache, views=[PLAIN])) == 2
