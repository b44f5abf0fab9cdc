"""Where images are found: in folders, in tars and in tables; and how each is read."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from miniclip.images import decode
from miniclip.index.sources import Opened, Seen, State, list_images, open_images
from miniclip.testing import COLOURS, picture


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    picture(colour).save(stream, "PNG")
    return stream.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def table(path: Path, **columns: object) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), path, row_group_size=3)
    return path


def seen(root: Path, skipped: list[tuple[str, str]] | None = None, *patterns: str) -> list[Seen]:
    told = [] if skipped is None else skipped
    found = list_images(
        root, patterns=patterns, on_skipped=lambda path, why: told.append((path.name, why))
    )
    return list(found)


def opened(wanted: list[Seen]) -> list[Opened]:
    return list(open_images(wanted, lambda path, why: pytest.fail(f"{path}: {why}")))


def colour_of(entry: Opened) -> tuple[int, ...]:
    pixel = decode(entry.source).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_files_come_with_their_state(tmp_path: Path) -> None:
    (tmp_path / "A.PNG").write_bytes(png("red"))
    os.utime(tmp_path / "A.PNG", ns=(5, 7))
    (tmp_path / "notes.txt").touch()

    (entry,) = seen(tmp_path)

    assert (entry.path, entry.member) == (tmp_path / "A.PNG", "")
    assert entry.state[:2] == (len(png("red")), 7)
    assert colour_of(opened([entry])[0]) == COLOURS["red"]


def test_a_link_that_leads_nowhere_is_listed_with_the_state_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere")

    (entry,) = seen(tmp_path)

    assert entry.state == State.of(tmp_path / "gone.jpg")
    (tmp_path / "nowhere").write_bytes(png("red"))
    assert State.of(tmp_path / "gone.jpg") != entry.state


def test_the_members_of_a_tar_are_read_in_place_with_their_captions(tmp_path: Path) -> None:
    shard(
        tmp_path / "000.tar",
        {
            "a.png": png("red"),
            "a.txt": b"a  red\nthing",
            "b.bmp": b"no picture",
            "sub/c.png": png("blue"),
            "sub/c.json": b'{"caption": ["one", "two"]}',
            ".hidden.png": png("red"),
            "__MACOSX/a.png": png("red"),
            "readme.md": b"#",
        },
    )

    found = seen(tmp_path)
    read = opened(found)

    assert [entry.member for entry in found] == ["a.png", "b.bmp", "sub/c.png"]
    assert [entry.captions for entry in read] == [("a red thing",), (), ("one", "two")]
    assert [colour_of(entry) for entry in (read[0], read[2])] == [COLOURS["red"], COLOURS["blue"]]
    assert found[2].name == f"{tmp_path}/000.tar/sub/c.png"


@pytest.mark.parametrize("shape", ["bytes", "struct"])
def test_the_rows_of_a_table_are_images(tmp_path: Path, shape: str) -> None:
    colours = list(COLOURS)
    images: list[object] = [png(colour) for colour in colours]
    if shape == "struct":  # as the package `datasets` writes them
        images = [{"bytes": image, "path": None} for image in images]
    table(tmp_path / "t.parquet", image=images, caption=[f"a {name}  thing" for name in colours])

    found = seen(tmp_path)
    read = opened([entry for entry in found if int(entry.member) % 2])

    assert [entry.member for entry in found] == [str(row) for row in range(len(colours))]
    assert [colour_of(entry) for entry in read] == [COLOURS[name] for name in colours[1::2]]
    assert read[0].captions == (f"a {colours[1]} thing",)


def test_a_missing_image_of_a_table_is_an_empty_one(tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", jpg=[png("red"), None], n=[1, 2])

    assert [entry.source.data for entry in opened(seen(tmp_path))] == [png("red"), b""]


def test_a_table_without_images_is_named_only_if_the_user_names_it(tmp_path: Path) -> None:
    path = table(tmp_path / "vectors.parquet", id=["a"], embedding=[[1.0, 2.0]])
    skipped: list[tuple[str, str]] = []

    assert seen(tmp_path, skipped) == []
    assert skipped == []
    assert seen(path, skipped) == []
    assert "a column of image bytes (it has id, embedding)" in skipped[0][1]


def test_broken_archives_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "packed.tar", {"a.png": png("red")}, "w:gz")
    (tmp_path / "text.parquet").write_text("no table at all")
    (tmp_path / "text.tar").write_text("no tar at all" * 100)
    pytest.importorskip("pyarrow")
    skipped: list[tuple[str, str]] = []

    assert seen(tmp_path, skipped) == []
    assert sorted(name for name, _ in skipped) == ["packed.tar", "text.parquet", "text.tar"]


def test_a_truncated_tar_gives_what_is_whole(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a.tar", {"a.png": png("red"), "b.png": b"x" * 9000})
    whole.write_bytes(whole.read_bytes()[:4000])

    skipped: list[tuple[str, str]] = []
    assert [entry.member for entry in seen(tmp_path, skipped)] == ["a.png"]
    assert skipped[0][0] == "a.tar"


def test_an_archive_that_is_gone_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=[png("red")])
    found = seen(tmp_path)
    path.unlink()
    told: list[Path] = []

    assert list(open_images(found, lambda path, _why: told.append(path))) == []
    assert told == [path]


def test_patterns_reach_into_archives(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"x/a.png": png("red"), "y/b.png": png("red")})

    assert [entry.member for entry in seen(tmp_path, None, "x/")] == ["y/b.png"]
