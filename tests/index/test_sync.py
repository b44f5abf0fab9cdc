"""An index follows its folders: what is embedded, what is recognised, what stays, what goes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniclip.collection import Index
from miniclip.errors import DatasetError
from miniclip.images import ImageSource, decode
from miniclip.index import embed_cached, failures, update
from miniclip.index.contents import digest_of
from miniclip.index.sync import SyncResult
from miniclip.index.vector_cache import VectorCache
from miniclip.testing import FakeEncoder
from tests.index.photos_on_disk import assert_in_step, date, held, photo, vectors


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        photo(folder / f"{number:02}.png", number)
    return folder


@pytest.fixture
def index(photos: Path) -> Iterator[Index]:
    with Index.open(photos, FakeEncoder()) as index:
        yield index


def counts(result: SyncResult) -> dict[str, int]:
    """Return the counts that are not 0."""
    found = result.to_dict()
    names = ("added", "changed", "moved", "deleted", "unchanged", "embedded", "missing", "pruned")
    return {name: found[name] for name in names if found[name]}


def test_the_first_run_embeds_everything_and_the_second_nothing(index: Index, photos: Path) -> None:
    assert counts(index.sync()) == {"added": 12, "embedded": 12}
    assert_in_step(index, photos)
    assert counts(index.sync()) == {"unchanged": 12}


def test_an_unchanged_file_is_not_even_opened(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync()
    monkeypatch.setattr(update, "digest_of", lambda source: pytest.fail(f"read {source.name}"))

    assert counts(index.sync()) == {"unchanged": 12}


def test_only_new_content_is_embedded(index: Index, photos: Path) -> None:
    """The scene of a working day: some new, some renamed, some edited, some thrown away."""
    index.sync()
    for number in range(100, 104):
        photo(photos / "new" / f"{number}.png", number)
    for name in ("00", "01", "02"):
        (photos / f"{name}.png").rename(photos / f"renamed {name}.png")
    for number in (3, 4):
        photo(photos / f"{number:02}.png", 200 + number)
    (photos / "05.png").unlink()

    result = index.sync()

    assert counts(result) == {
        "added": 4,
        "moved": 3,
        "changed": 2,
        "deleted": 1,
        "unchanged": 6,
        "embedded": 6,
        "missing": 1,
    }
    assert result.images == 15
    assert_in_step(index, photos)


def test_the_result_equals_a_fresh_index(index: Index, photos: Path, tmp_path: Path) -> None:
    index.sync()
    (photos / "00.png").rename(photos / "zero.png")
    photo(photos / "01.png", 77)
    shutil.copy(photos / "02.png", photos / "twin.png")
    (photos / "03.png").unlink()
    index.sync()

    with Index.open(photos, FakeEncoder(), directory=tmp_path / "fresh") as fresh:
        fresh.sync()

        assert held(index) == held(fresh)
        rows, expected = vectors(index), vectors(fresh)
        assert all((rows[path] == expected[path]).all() for path in expected)


def test_a_touched_file_is_read_but_not_embedded(index: Index, photos: Path) -> None:
    index.sync()
    date(photos / "00.png")

    assert counts(index.sync()) == {"unchanged": 12}
    assert {record.mtime_ns for record in index} == {
        path.stat().st_mtime_ns for path in photos.glob("*.png")
    }


def test_a_file_written_just_now_is_not_trusted_by_its_time(index: Index, photos: Path) -> None:
    now = time.time()
    os.utime(photos / "00.png", (now, now))
    index.sync()
    size = (photos / "00.png").stat().st_size
    other = photo(photos / "01.png", 1).read_bytes()
    (photos / "00.png").write_bytes(other.ljust(size, b"\0")[: max(size, len(other))])
    os.utime(photos / "00.png", (now, now))

    index.sync()

    assert_in_step(index, photos)


def test_equal_content_is_embedded_once(photos: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(photos / "00.png", date(photos / "00.png").with_name(f"{name}.png"))
    with Index.open(photos, FakeEncoder()) as index:
        assert counts(index.sync()) == {"added": 15, "embedded": 12}
        shutil.copy(photos / "01.png", photos / "d.png")
        assert counts(index.sync()) == {"added": 1, "unchanged": 15}
        assert_in_step(index, photos)


def test_files_that_swap_their_names_cost_nothing(index: Index, photos: Path) -> None:
    index.sync()
    names = [photos / f"{number:02}.png" for number in (0, 1, 2)]
    names[0].rename(photos / "aside")
    names[1].rename(names[0])
    names[2].rename(names[1])
    (photos / "aside").rename(names[2])
    for name in names:
        date(name)

    assert counts(index.sync()) == {"changed": 3, "unchanged": 9}
    assert_in_step(index, photos)


def test_a_renamed_file_keeps_its_captions_and_number(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\n00.png,a red  thing\n00.png,again\n")
    result = index.sync(captions=tmp_path / "captions.csv")
    assert result.captions == 2
    (before,) = (record for record in index if record.captions)

    (photos / "00.png").rename(photos / "renamed.png")
    index.sync()
    (photos / "renamed.png").rename(tmp_path / "elsewhere.png")
    index.sync()
    (tmp_path / "elsewhere.png").rename(photos / "back.png")
    index.sync()

    (after,) = (record for record in index if record.captions)
    assert Path(after.path).name == "back.png"
    assert after.captions == before.captions == ("a red thing", "again")


def test_an_unreadable_file_is_named_and_tried_again_only_when_it_changes(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "bad.png").write_text("no image")
    (photos / "gone.png").symlink_to("nowhere")

    first = index.sync()
    with monkeypatch.context() as patch:
        patch.setattr(update, "digest_of", lambda source: pytest.fail(f"read {source.name}"))
        second = index.sync()

    assert [Path(entry.name).name for entry in first.skipped] == ["bad.png", "gone.png"]
    assert second.skipped == first.skipped
    assert "nowhere, which does not exist" in first.skipped[1].reason
    photo(photos / "bad.png", 50)
    shutil.copy(photos / "00.png", photos / "nowhere")
    assert counts(index.sync()) == {"added": 2, "unchanged": 12, "embedded": 1}


def test_a_new_decoder_gives_unreadable_files_another_chance(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "bad.png").write_text("no image")
    index.sync()
    monkeypatch.setattr(failures, "_decoders", lambda: "newer")
    read: list[str] = []

    def digest(source: ImageSource) -> bytes | None:
        read.append(source.name)
        return digest_of(source)

    monkeypatch.setattr(update, "digest_of", digest)

    index.sync()

    assert read == [str(photos / "bad.png")]


def test_a_file_that_becomes_unreadable_is_not_found_any_more(index: Index, photos: Path) -> None:
    index.sync()
    whole = (photos / "00.png").read_bytes()
    (photos / "00.png").write_bytes(whole[:20])

    result = index.sync()

    assert (result.images, result.deleted, len(result.skipped)) == (11, 1, 1)
    assert_in_step(index, photos)
    (photos / "00.png").write_bytes(whole)
    assert index.sync().embedded == 0
    assert_in_step(index, photos)


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(source: ImageSource, **options: Any) -> Image.Image:
        if source.name.endswith("00.png"):
            photo(photos / "00.png", 99)
        return decode(source, **options)

    with monkeypatch.context() as patch:
        patch.setattr("miniclip.embed.decode", overtaken)
        result = index.sync()

    assert result.added == 11
    assert "changed while it was read" in result.skipped[0].reason
    assert counts(index.sync()) == {"added": 1, "unchanged": 11, "embedded": 1}
    assert_in_step(index, photos)


def test_vanished_images_wait_and_return_without_being_read(
    index: Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive below the folder is not mounted for a while."""
    for number in range(20, 25):
        photo(photos / "drive" / f"{number}.png", number)
    index.sync()
    (photos / "drive").rename(tmp_path / "unplugged")

    assert counts(index.sync()) == {"deleted": 5, "unchanged": 12, "missing": 5}
    assert_in_step(index, photos)
    (tmp_path / "unplugged").rename(photos / "drive")
    monkeypatch.setattr(update, "digest_of", lambda source: pytest.fail(f"read {source.name}"))
    assert counts(index.sync()) == {"added": 5, "unchanged": 12}
    assert_in_step(index, photos)


@pytest.mark.parametrize("state", ["missing", "empty", "dangling"])
def test_a_root_that_is_missing_or_empty_is_refused_unless_pruned(
    photos: Path, tmp_path: Path, state: str
) -> None:
    with Index.open(photos, FakeEncoder(), directory=tmp_path / "away") as index:
        index.sync()
        photos.rename(tmp_path / "unplugged")
        if state == "empty":
            photos.mkdir()
        if state == "dangling":
            photos.symlink_to(tmp_path / "mount")

        with pytest.raises(DatasetError, match=r"is \w+, but the index knows 12 .*--prune"):
            index.sync()

        assert len(index) == 12
        assert counts(index.sync(prune=True)) == {"deleted": 12, "pruned": 12}
        assert len(index) == 0


def test_a_missing_root_that_was_pruned_is_followed_no_more(photos: Path, tmp_path: Path) -> None:
    photo(tmp_path / "more" / "a.png", 30)
    with Index.open([photos, tmp_path / "more"], FakeEncoder(), directory=tmp_path / "i") as index:
        index.sync()
    shutil.rmtree(photos)

    with Index.open(tmp_path / "i", FakeEncoder()) as index:
        with pytest.raises(DatasetError, match="is missing"):
            index.sync()
        assert index.sync(prune=True).pruned == 12
        assert index.roots == (tmp_path / "more",)
        assert counts(index.sync()) == {"unchanged": 1}


def test_pruning_forgets_what_vanished_before(index: Index, photos: Path) -> None:
    index.sync()
    content = (photos / "00.png").read_bytes()
    (photos / "00.png").unlink()
    index.sync()

    assert counts(index.sync(prune=True)) == {"unchanged": 11, "pruned": 1}
    (photos / "00.png").write_bytes(content)
    assert index.sync().embedded == 1


def test_a_folder_that_cannot_be_listed_is_taken_to_be_as_it_was(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(photos / "locked" / "a.png", 30)
    index.sync()
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        result = index.sync()

    assert counts(result) == {"unchanged": 13}
    assert "locked" in result.skipped[0].name
    assert "cannot list the folder" in result.skipped[0].reason


def test_what_a_search_without_an_index_embedded_is_not_embedded_again(
    index: Index, photos: Path
) -> None:
    with VectorCache.open() as cache:
        embed_cached.embed_cached(FakeEncoder(), sorted(photos.glob("0*.png")), cache)

    assert counts(index.sync()) == {"added": 12, "embedded": 2}
    assert_in_step(index, photos)


def test_models_stand_side_by_side(index: Index, photos: Path) -> None:
    index.sync()
    with Index.open(photos, FakeEncoder(name="other")) as other:
        assert counts(other.sync()) == {"added": 12, "embedded": 12}
        photo(photos / "00.png", 60)
        assert counts(other.sync()) == {"changed": 1, "unchanged": 11, "embedded": 1}

    assert counts(index.sync()) == {"added": 1, "unchanged": 11, "embedded": 1}
    assert_in_step(index, photos)


def test_folders_are_followed_together_and_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for number in range(3):
        photo(one / f"{number}.png", number)
        photo(two / f"{number}.png", 10 + number)
    with Index.open([one], FakeEncoder(), directory=tmp_path / "index") as index:
        assert index.sync().added == 3
    with Index.open([two], FakeEncoder(), directory=tmp_path / "index") as index:
        assert counts(index.sync()) == {"added": 3, "embedded": 3}
    (one / "0.png").unlink()
    (two / "0.png").unlink()
    with Index.open([two], FakeEncoder(), directory=tmp_path / "index") as index:
        assert counts(index.sync()) == {"deleted": 1, "unchanged": 2, "missing": 1}
    with Index.open(tmp_path / "index", FakeEncoder()) as index:
        assert index.roots == (one, two)
        assert counts(index.sync()) == {"deleted": 1, "unchanged": 4, "missing": 2}


def test_what_is_ignored_leaves_the_index(index: Index, photos: Path) -> None:
    index.sync()

    assert counts(index.sync(ignore=["0*.png"]))["deleted"] == 10
    assert set(held(index)) == {photos / "10.png", photos / "11.png"}
    assert counts(index.sync()) == {"added": 10, "unchanged": 2}
