"""`Index` as a program sees it: where it lies, what it finds, what it says, from many threads."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import ExifTags, Image

import miniclip
from miniclip.collection import Index
from miniclip.errors import ConfigError, DatasetError, StoreError
from miniclip.index.location import BESIDE, Location, nearby
from miniclip.index.sqlite_store import SqliteStore
from miniclip.testing import COLOURS, FakeEncoder, picture
from tests.index.photos_on_disk import assert_in_step, held, photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in COLOURS:
        picture(colour).save(folder / f"{colour}.png")
    return folder


@pytest.fixture
def index(photos: Path) -> Iterator[Index]:
    with Index.open(photos, FakeEncoder()) as index:
        index.sync()
        yield index


# Where it lies


def test_one_folder_has_its_index_inside_and_may_be_moved_with_it(
    index: Index, photos: Path
) -> None:
    assert index.directory == photos / BESIDE
    index.close()
    moved = photos.rename(photos.with_name("moved"))

    with Index.open(moved, FakeEncoder()) as there:
        assert there.search("red", top=1)[0].path == moved / "red.png"
        assert there.sync().unchanged == len(COLOURS)


def test_several_folders_have_theirs_in_the_data_directory(home: Path, tmp_path: Path) -> None:
    photo(tmp_path / "a" / "1.png", 1)
    photo(tmp_path / "b" / "2.png", 2)
    with Index.open([tmp_path / "a", tmp_path / "b"], FakeEncoder()) as index:
        index.sync()

        assert index.directory.parent == home / "indexes"
        assert index.roots == (tmp_path / "a", tmp_path / "b")
    with Index.open([tmp_path / "b", tmp_path / "a" / "..", tmp_path / "b"], FakeEncoder()) as up:
        assert up.roots == (tmp_path,), "folders inside others are no folders of their own"


def test_a_folder_that_may_not_be_written_to_has_its_index_elsewhere(
    photos: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert Location.of([photos]).directory.parent == home / "indexes"


def test_the_indexes_that_may_cover_a_folder_are_found(index: Index, photos: Path) -> None:
    (photos / "deep" / "er").mkdir(parents=True)
    with Index.open([photos, photos.parent / "x"], FakeEncoder()) as both:
        (photos.parent / "x").mkdir()
        both.sync()

        found = list(nearby(photos / "deep" / "er"))

        assert [location.directory for location in found] == [index.directory, both.directory]


def test_an_index_is_opened_by_its_directory_alone(index: Index, photos: Path) -> None:
    with Index.open(index.directory, FakeEncoder()) as again:
        assert again.roots == (photos,)
        assert len(again) == len(COLOURS)


def test_nothing_to_open_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one folder"):
        Index.open([])


def test_an_index_that_is_not_there_says_how_to_make_it(photos: Path) -> None:
    with (
        Index.open(photos, FakeEncoder()) as index,
        pytest.raises(StoreError, match=f"miniclip index {photos}"),
    ):
        index.search("red")
    assert not (photos / BESIDE).exists()


def test_a_folder_that_is_not_there_is_an_error_and_leaves_no_index(
    tmp_path: Path, home: Path
) -> None:
    with (
        Index.open(tmp_path / "none", FakeEncoder()) as index,
        pytest.raises(DatasetError, match="there is no file or folder"),
    ):
        index.sync()
    assert not (home / "indexes").exists()


# What it finds


def test_sentences_photos_and_vectors_find(index: Index, photos: Path) -> None:
    red = FakeEncoder().encode_texts(["red"])[0]

    for query in ("red", photos / "red.png", red):
        hits = index.search(query, top=3)

        assert hits[0].path == photos / "red.png"
        assert len(hits) == 3
    assert index.search("red and blue -blue", top=1)[0].path == photos / "red.png"


def test_conditions_and_pages_narrow_the_answer(index: Index, photos: Path) -> None:
    everything = [hit.path for hit in index.search("red", top=99)]

    assert [hit.path for hit in index.search("red", top=2, skip=3)] == everything[3:5]
    assert index.search("red", where="path = 'blue.png'")[0].path == photos / "blue.png"
    assert index.search("red", where="width > 1000") == []


def test_it_is_a_collection_of_records(index: Index, photos: Path) -> None:
    records = list(index)

    assert len(index) == len(records) == len(COLOURS)
    assert {record.path for record in records} == {str(path) for path in photos.glob("*.png")}
    assert (records[0].width, records[0].height) == (32, 24)


def test_captions_are_attached_and_answer_for_an_image(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    lines = [f"{colour}.png,a {colour} thing" for colour in COLOURS]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines, "none.png,x"]))

    first = index.sync(captions=tmp_path / "captions.csv")
    again = index.sync(captions=tmp_path / "captions.csv")

    assert (first.captions, again.captions) == (len(COLOURS), 0)
    assert [Path(entry.name).name for entry in first.skipped] == ["none.png"]
    assert index.match(photos / "green.png", top=1)[0].text == "a green thing"
    assert index.search("green", by="text", top=1)[0].path == photos / "green.png"


def test_archives_are_indexed_with_their_captions(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for colour in ("red", "green"):
            stream = io.BytesIO()
            picture(colour).save(stream, "PNG")
            for name, data in (
                (f"{colour}.png", stream.getvalue()),
                (f"{colour}.txt", f"all {colour}".encode()),
                (f"{colour}-broken.jpg", b"no image"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    with Index.open(folder, FakeEncoder()) as index:
        result = index.sync()

        assert (result.added, result.captions, len(result.skipped)) == (2, 2, 2)
        assert index.sync().unchanged == 2
        (hit,) = index.search("green", top=1)
        assert (hit.path, hit.member) == (folder / "0.tar", "green.png")
        assert set(held(index)) == {
            folder / "0.tar" / "red.png",
            folder / "0.tar" / "green.png",
        }
        with tarfile.open(folder / "0.tar", "a") as tar:  # a third member; the state of all changes
            tar.add(_blue(tmp_path), "blue.png")
        changed = index.sync()
        assert (changed.added, changed.unchanged, changed.embedded) == (1, 2, 1)


def _blue(folder: Path) -> Path:
    picture("blue").save(folder / "blue.png")
    return folder / "blue.png"


def test_metadata_is_kept(photos: Path) -> None:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Model: "NIKON D90", ExifTags.Base.DateTime: "2024:05:01 10:00:00"})
    picture("red").save(photos / "dated.jpg", exif=exif)
    with Index.open(photos, FakeEncoder()) as index:
        index.sync()

        (hit,) = index.search("red", where="taken = 2024-05 and camera like '%D90'")

        assert hit.path == photos / "dated.jpg"


ODD = ["new\nline.png", "quo'te\".png", "\u202egnp.exe.png", "caf\udce9.png", "%s -- ;.png"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_name_of_a_file_comes_back_as_it_was(photos: Path, name: str) -> None:
    shutil.copy(photos / "red.png", photos / name)
    (photos / "red.png").unlink()
    with Index.open(photos, FakeEncoder()) as index:
        index.sync()

        assert index.search("red", top=1)[0].path == photos / name
        assert index.sync().unchanged == len(COLOURS)


def test_a_path_of_four_thousand_bytes_is_indexed(tmp_path: Path) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) < 3700:
        deep /= "d" * 200
    try:
        photo(deep / "a.png", 1)
    except OSError:
        pytest.skip("this system has shorter paths")
    with Index.open(tmp_path, FakeEncoder()) as index:
        assert index.sync().added == 1


# Threads, writers, damage


def test_many_threads_search_while_one_brings_it_in_step(index: Index, photos: Path) -> None:
    def search(number: int) -> Path:
        return index.search(list(COLOURS)[number % len(COLOURS)], top=1)[0].path

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(search, number) for number in range(60)]
        for number in range(3):
            photo(photos / f"{number}.png", number)
            index.sync()
        found = [future.result() for future in asked]

    assert found == [photos / f"{list(COLOURS)[n % len(COLOURS)]}.png" for n in range(60)]
    assert len(index) == len(COLOURS) + 3


def test_a_second_writer_is_told_who_writes(index: Index, photos: Path) -> None:
    with (
        SqliteStore.open(index.directory, write=True),
        pytest.raises(StoreError, match=rf"process {os.getpid()} on .* is writing"),
    ):
        index.sync()
    assert index.sync().unchanged == len(COLOURS)


def test_another_model_is_refused_by_name(index: Index, photos: Path) -> None:
    with (
        Index.open(photos, FakeEncoder(name="other")) as other,
        pytest.raises(StoreError, match="vectors of fake, not of other"),
    ):
        other.search("red")


@pytest.mark.parametrize("victim", ["index.sqlite3", "vectors"])
@pytest.mark.parametrize("how", ["truncated", "overwritten"])
def test_damage_is_named_and_rebuilding_cures_it(photos: Path, victim: str, how: str) -> None:
    with Index.open(photos, FakeEncoder()) as index:
        index.sync()
    (path,) = (path for path in (photos / BESIDE).iterdir() if path.name.startswith(victim))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] if how == "truncated" else os.urandom(size))

    with Index.open(photos, FakeEncoder()) as index:
        with pytest.raises(StoreError, match="--rebuild"):
            index.search("red", top=len(COLOURS))

        assert index.sync(rebuild=True).added == len(COLOURS)
        assert index.search("red", top=1)[0].path == photos / "red.png"
        assert_in_step(index, photos)


def test_it_is_public() -> None:
    assert miniclip.Index is Index
