"""The feature cache against computing the rows anew; killed, extended, and fed bad images."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.errors import DatasetError, StoreError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.train.data import feature_cache
from miniclip.train.data.augment import fixed_view
from miniclip.train.data.feature_cache import FeatureCache, Half, Request, open_cache
from miniclip.train.data.trunk_runner import TrunkRunner, trunk_digest
from miniclip.train.recipe import Views
from tests.train.tiny_model import tiny_model

pytestmark = pytest.mark.train

SPEC = ImageSpec(8, "squash", 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
COUNT = 21


class Counting:
    """A stand-in for a tower: the mean colour of each half. It counts the rows that it made."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.rows = 0
        self.stop_after = stop_after

    def __call__(self, pixels: FloatArray) -> Half:
        if self.stop_after is not None and self.rows >= self.stop_after:
            raise KeyboardInterrupt
        self.rows += len(pixels)
        halves = pixels.reshape(len(pixels), 3, 2, 4, 8).mean(axis=(3, 4))
        rows: Half = halves.astype(np.float16)  # (B, 3, 2)
        return rows


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    draws = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    made = []
    for number in range(COUNT):
        pixels = draws.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        path = tmp_path / "photos" / f"{number:02d}.png"
        Image.fromarray(pixels).save(path)
        made.append(ImageSource(path.name, path))
    return made


@pytest.fixture
def request_(sources: list[ImageSource]) -> Request:
    return Request(sources, SPEC, Views(count=3, crop=(0.5, 0.9)), seed=4, weights="abc")


def naive(request: Request, image: int, view: int) -> Half:
    source = request.sources[image]
    picture = fixed_view(
        decode(source), request.views, view=view, seed=request.seed, name=source.name
    )
    rows: Half = Counting()(preprocess(picture, request.spec)[None])[0]
    return rows


def assert_right(cache: FeatureCache, request: Request) -> None:
    assert len(cache.views) == request.views.count
    for view, rows in enumerate(cache.views):
        assert rows.dtype == np.float16
        for image in cache.usable:
            np.testing.assert_array_equal(rows[image], naive(request, int(image), view))


def test_every_row_is_what_the_tower_gives_for_that_view(request_: Request, tmp_path: Path) -> None:
    seen: list[int] = []
    cache = open_cache(tmp_path / "cache", request_, Counting(), progress=seen.append)
    assert_right(cache, request_)
    assert seen == sorted(seen)
    assert seen[-1] == COUNT
    wanted = np.array([20, 3, 3]), np.array([0, 2, 1])
    for row, image, view in zip(cache.rows(*wanted), *wanted, strict=True):
        np.testing.assert_array_equal(row, naive(request_, int(image), int(view)))


def test_views_differ_and_the_first_two_are_plain_and_mirrored(
    request_: Request, tmp_path: Path
) -> None:
    plain, mirrored, cropped = open_cache(tmp_path / "cache", request_, Counting()).views
    assert not np.array_equal(plain, cropped)
    picture = decode(request_.sources[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_array_equal(mirrored[0], Counting()(preprocess(picture, SPEC)[None])[0])


def test_the_second_time_nothing_is_computed(request_: Request, tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", request_, Counting())
    again = Counting()
    assert_right(open_cache(tmp_path / "cache", request_, again), request_)
    assert again.rows == 0


def test_another_process_is_told_the_files_and_maps_them_too(
    request_: Request, tmp_path: Path
) -> None:
    """So do the workers of a data loader where processes are not split off."""
    cache = open_cache(tmp_path / "cache", request_, Counting())
    sent = pickle.dumps(cache)
    for view in cache.views:
        assert view.tobytes() not in sent
    there = pickle.loads(sent)
    assert_right(there, request_)
    assert all(isinstance(view, np.memmap) and view.mode == "r" for view in there.views)


def test_more_views_are_added_to_those_there_are(request_: Request, tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", request_, Counting())
    more = replace(request_, views=replace(request_.views, count=5))
    run = Counting()
    assert_right(open_cache(tmp_path / "cache", more, run), more)
    assert run.rows == 2 * COUNT


@pytest.mark.parametrize("stop_after", [1, 20, 50])
def test_killed_in_the_middle_it_goes_on(
    stop_after: int, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_SAVE_EVERY", 10)
    monkeypatch.setattr(feature_cache, "ROWS_AT_ONCE", 6)
    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path / "cache", request_, Counting(stop_after=stop_after))
    rest = Counting()
    assert_right(open_cache(tmp_path / "cache", request_, rest), request_)
    done = stop_after // 30 * 30  # ten images of three views are saved together
    assert 3 * COUNT - stop_after - 6 <= rest.rows <= 3 * COUNT - done


def test_killed_and_asked_for_other_views_it_begins_anew(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_SAVE_EVERY", 5)
    monkeypatch.setattr(feature_cache, "ROWS_AT_ONCE", 6)
    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path / "cache", request_, Counting(stop_after=40))
    more = replace(request_, views=replace(request_.views, count=4))
    assert_right(open_cache(tmp_path / "cache", more, Counting()), more)


def test_bad_images_are_named_and_the_others_keep_their_places(
    request_: Request, tmp_path: Path
) -> None:
    for number, content in ((2, b""), (20, b"no picture")):
        path = request_.sources[number].path
        assert path is not None
        path.write_bytes(content)
    for _ in range(2):  # the second time from the cache
        cache = open_cache(tmp_path / "cache", request_, Counting())
        assert [entry.name for entry in cache.skipped] == ["02.png", "20.png"]
        assert all(entry.reason for entry in cache.skipped)
        assert cache.usable.tolist() == [n for n in range(COUNT) if n not in (2, 20)]
        assert_right(cache, request_)


def test_only_bad_images_are_an_error(request_: Request, tmp_path: Path) -> None:
    for source in request_.sources:
        assert source.path is not None
        source.path.write_bytes(b"")
    with pytest.raises(DatasetError, match="none of 21 images is usable"):
        open_cache(tmp_path / "cache", request_, Counting())


def test_the_key_covers_all_that_rows_depend_on(request_: Request) -> None:
    others = [
        replace(request_, weights="abd"),
        replace(request_, seed=5),
        replace(request_, spec=replace(SPEC, interpolation="bicubic")),
        replace(request_, views=replace(request_.views, crop=(0.5, 1.0))),
        replace(request_, views=replace(request_.views, flip=False)),
        replace(request_, sources=request_.sources[:-1]),
    ]
    assert len({request_.key, *(other.key for other in others)}) == 1 + len(others)
    assert replace(request_, views=replace(request_.views, count=9)).key == request_.key
    path = request_.sources[0].path
    assert path is not None
    before = request_.key
    os.utime(path, ns=(0, 0))
    assert request_.key != before


def test_plain_images_are_shared_whatever_the_views(sources: list[ImageSource]) -> None:
    one = Request(sources, SPEC, Views(), seed=1, weights="abc")
    assert replace(one, seed=2, views=Views(crop=(0.1, 0.2))).key == one.key


def test_a_place_that_cannot_be_written_is_named(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder is needed")
    with pytest.raises(StoreError, match="MINICLIP_HOME"):
        open_cache(tmp_path / "cache", request_, Counting())


def test_onnxruntime_and_torch_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the graph cannot be made, torch steps in, with a warning in the log."""
    model = tiny_model(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype(np.float32)
    runner = partial(TrunkRunner, model.fixed_part, 32, device=torch.device("cpu"), threads=1)
    fast = runner()(pixels)
    assert fast.dtype == np.float16
    monkeypatch.setattr("miniclip.train.data.trunk_runner.MIN_COSINE", 2.0)
    slow = runner()(pixels)
    np.testing.assert_allclose(fast, slow, atol=2e-3)
    with torch.no_grad():
        expected = model.trunk(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(fast, expected, atol=2e-3)


def test_other_weights_are_another_digest(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    before = trunk_digest(model.fixed_part)
    assert trunk_digest(model.fixed_part) == before
    with torch.no_grad():
        next(model.image_tower.parameters()).add_(1e-3)
    assert trunk_digest(model.fixed_part) != before
