"""Only what the cache does not hold is decoded and embedded, and the rows stay in order."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.embed import embed_all
from miniclip.encoder import ImageVectors
from miniclip.images import ImageSource, decode
from miniclip.index import contents
from miniclip.index import embed_cached as module
from miniclip.index.embed_cached import CachedSet, embed_cached
from miniclip.index.scan import find_images
from miniclip.index.vector_cache import VectorCache
from miniclip.testing import COLOURS, FakeEncoder, picture


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path / "vectors.sqlite3") as cache:
        yield cache


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in COLOURS:
        old(save(folder / f"{colour}.png", colour))
    return folder


def save(path: Path, colour: str) -> Path:
    picture(colour).save(path)
    return path


def old(path: Path) -> Path:
    """Date a file back, as most files of an archive are."""
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def run(paths: Sequence[Path], cache: VectorCache, name: str = "fake") -> CachedSet:
    return embed_cached(FakeEncoder(name=name), paths, cache)


def test_cached_vectors_equal_fresh_ones_in_the_same_order(
    photos: Path, cache: VectorCache
) -> None:
    paths = list(find_images([photos]))
    fresh = embed_all(FakeEncoder(), map(ImageSource.of, paths))

    first, second = run(paths, cache), run(paths, cache)

    assert (first.computed, second.computed) == (len(COLOURS), 0)
    for result in (first, second):
        assert result.paths == tuple(paths)
        np.testing.assert_array_equal(result.embeddings, fresh.embeddings)


def test_another_model_shares_nothing(photos: Path, cache: VectorCache) -> None:
    paths = list(find_images([photos]))
    run(paths, cache)

    assert run(paths, cache, name="another").computed == len(paths)


def test_moved_renamed_and_doubled_files_are_hits(photos: Path, cache: VectorCache) -> None:
    run(list(find_images([photos])), cache)
    (photos / "red.png").rename(photos / "rouge.png")
    shutil.copy(photos / "blue.png", photos / "blue copy.png")

    result = run(list(find_images([photos])), cache)

    assert result.computed == 0
    names = [path.name for path in result.paths]
    blue, copy = names.index("blue.png"), names.index("blue copy.png")
    np.testing.assert_array_equal(result.embeddings[blue], result.embeddings[copy])
    assert "rouge.png" in names


def test_equal_files_are_embedded_once_even_in_one_call(tmp_path: Path, cache: VectorCache) -> None:
    paths = [save(tmp_path / f"{number}.png", "green") for number in range(5)]

    result = run([*paths, paths[0]], cache)

    assert result.computed == 1
    assert result.paths == (*paths, paths[0])
    assert len({row.tobytes() for row in result.embeddings}) == 1


def test_a_changed_file_is_embedded_again(photos: Path, cache: VectorCache) -> None:
    run([photos / "red.png"], cache)
    save(photos / "red.png", "blue")

    changed = run([photos / "red.png"], cache)

    np.testing.assert_array_equal(changed.embeddings, run([photos / "blue.png"], cache).embeddings)


def test_an_unchanged_file_is_not_even_read_again(
    photos: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(find_images([photos]))
    run(paths, cache)
    monkeypatch.setattr(contents, "_digest", lambda source, _: pytest.fail(f"{source} read again"))

    assert run(paths, cache).computed == 0


def test_a_file_written_just_now_is_not_trusted_by_its_time(
    photos: Path, cache: VectorCache
) -> None:
    red = photos / "red.png"
    now = time.time()
    os.utime(red, (now, now))
    run([red], cache)
    before = red.stat()
    shutil.copy(save(photos / "other.png", "blue"), red)
    red.write_bytes(red.read_bytes().ljust(before.st_size, b"\0"))
    os.utime(red, ns=(before.st_atime_ns, before.st_mtime_ns))

    changed = run([red], cache)

    np.testing.assert_array_equal(changed.embeddings, run([photos / "blue.png"], cache).embeddings)


def test_a_file_changed_between_hashing_and_decoding_spoils_no_cache(
    photos: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = photos / "red.png"
    content = red.read_bytes()

    def overtaken(source: ImageSource, **options: Any) -> Image.Image:
        save(red, "blue")
        return decode(source, **options)

    with monkeypatch.context() as patch:
        patch.setattr("miniclip.embed.decode", overtaken)
        run([red], cache)
    red.write_bytes(content)

    (vector,) = run([red], cache).embeddings

    blue = run([photos / "blue.png"], cache).embeddings[0]
    assert vector @ blue < 0.9


def test_bad_files_are_named_and_the_rest_stays_in_order(photos: Path, cache: VectorCache) -> None:
    (photos / "empty.png").touch()
    (photos / "fake.jpg").write_text("no image")
    (photos / "fake copy.jpg").write_text("no image")
    (photos / "gone.jpg").symlink_to(photos / "nowhere")
    paths = list(find_images([photos]))

    for _ in range(2):
        result = run(paths, cache)

        assert [path.stem for path in result.paths] == sorted(COLOURS)
        bad = ["empty.png", "fake copy.jpg", "fake.jpg", "gone.jpg"]
        assert [Path(entry.name).name for entry in result.skipped] == bad
        assert result.skipped[1].reason == result.skipped[2].reason
        assert "nowhere, which does not exist" in result.skipped[3].reason
    fresh = run([photos / "red.png"], cache)
    np.testing.assert_array_equal(
        result.embeddings[sorted(COLOURS).index("red")], fresh.embeddings[0]
    )


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path, cache: VectorCache) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")

    result = run([tmp_path / "pipe.jpg"], cache)

    assert "pipe" in result.skipped[0].reason


def test_progress_counts_every_file_once(
    photos: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_UP", 4)
    (photos / "empty.png").touch()
    paths = list(find_images([photos]))
    run(paths[:5], cache)
    seen: list[int] = []

    embed_cached(FakeEncoder(), paths, cache, progress=seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == len(paths)


def test_every_batch_is_stored_before_the_next_is_asked_for(
    tmp_path: Path, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop in the third batch: two are stored, and the next call computes only the rest."""
    paths = []
    for number in range(80):
        path = tmp_path / f"{number:02}.png"
        picture("red", (20, 20 + number)).save(path)
        paths.append(path)

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
            run(paths, cache)

    assert cache.count(FakeEncoder().fingerprint) == 64
    assert run(paths, cache).computed == 16


def test_no_files_give_an_empty_set(cache: VectorCache) -> None:
    result = run([], cache)

    assert result.paths == ()
    assert result.embeddings.shape == (0, FakeEncoder().embedding_dim)
