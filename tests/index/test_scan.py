"""Which files of a folder tree count as images, and in which order they come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miniclip.errors import DatasetError
from miniclip.index.scan import find_images


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(*roots: Path) -> list[str]:
    base = roots[0]
    return [path.relative_to(base).as_posix() for path in find_images(roots)]


def test_images_come_folder_by_folder_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.jpg", "a/x.webp", "z.jpg", "a/deep/y.tiff", "c.jpeg"):
        touch(tmp_path / name)

    assert found(tmp_path) == ["c.jpeg", "z.jpg", "a/x.webp", "a/deep/y.tiff", "b/1.jpg", "b/2.png"]


def test_suffixes_count_in_any_case_and_other_files_do_not(tmp_path: Path) -> None:
    for name in ("UPPER.JPG", "Mixed.Png", "notes.txt", "jpg", "archive.jpg.zip"):
        touch(tmp_path / name)

    assert found(tmp_path) == ["Mixed.Png", "UPPER.JPG"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".hidden.jpg", ".thumbnails/a.jpg", "seen.jpg"):
        touch(tmp_path / name)

    assert found(tmp_path) == ["seen.jpg"]


def test_a_file_named_by_the_user_is_given_whatever_its_name(tmp_path: Path) -> None:
    odd = touch(tmp_path / ".odd.bin")

    assert list(find_images([odd])) == [odd]


def test_a_dangling_link_is_listed_so_that_decoding_can_name_it(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")

    assert found(tmp_path) == ["gone.jpg", "self.jpg"]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    touch(tmp_path / "real.jpg")

    assert found(tmp_path) == ["real.jpg"]


def test_a_folder_that_looks_like_an_image_is_entered(tmp_path: Path) -> None:
    touch(tmp_path / "album.jpg" / "1.jpg")

    assert found(tmp_path) == ["album.jpg/1.jpg"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)

    assert found(tmp_path) == ["a/1.jpg"]


def test_a_folder_given_twice_is_searched_once(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg")

    assert found(tmp_path, tmp_path / "a") == ["a/1.jpg"]


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file or folder .*nowhere; check the path"):
        list(find_images([tmp_path / "nowhere"]))


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused_in_the_same_way(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no file or folder"):
        list(find_images([tmp_path / name]))


def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    touch(tmp_path / "open" / "1.jpg")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder == locked:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    reported: list[tuple[Path, str]] = []

    images = list(
        find_images([tmp_path], on_unreadable=lambda path, why: reported.append((path, why)))
    )

    assert images == [tmp_path / "open" / "1.jpg"]
    assert reported == [(locked, "cannot list the folder: Permission denied")]
    with pytest.raises(DatasetError, match="locked: cannot list the folder"):
        list(find_images([tmp_path]))
