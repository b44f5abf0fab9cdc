"""WebDataset shards: images stay in their tar, captions come out, damage costs what it hits."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from miniclip.datasets.captions import read_captions
from miniclip.datasets.shards import expand_shards
from miniclip.errors import DatasetError
from miniclip.images import decode
from miniclip.testing import COLOURS, picture


def image_bytes(colour: str, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(colour).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(colour: str) -> dict[str, bytes]:
    return {f"{colour}.png": image_bytes(colour), f"{colour}.txt": f"a {colour} thing".encode()}


def test_images_are_read_from_their_place_in_the_tar(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", sample("red") | sample("blue") | sample("green"))
    captions = read_captions(shard)
    assert captions.format == "webdataset"
    assert captions.skipped == ()
    assert captions.texts == ("a red thing", "a blue thing", "a green thing")
    for image, colour in zip(captions.images, ("red", "blue", "green"), strict=True):
        assert image.name == f"x.tar/{colour}.png"
        assert image.source.data is None  # nothing is held in memory
        assert decode(image.source).getpixel((0, 0)) == COLOURS[colour]


def test_captions_in_json_or_in_text_and_names_with_folders_and_dots(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "x.tar",
        {
            "0/a.json": b'{"width": 3, "captions": ["one", "two"]}',
            "0/a.JPG": image_bytes("red", "JPEG"),
            "1.5/a.webp": image_bytes("red", "WEBP"),
            "1.5/a.txt": "grün".encode(),
            "1.5/a.json": b'{"caption": "the text file wins"}',
            "1.5/a.cls": b"7",
        },
    )
    captions = read_captions(shard)
    assert {image.name: image.captions for image in captions.images} == {
        "x.tar/0/a.JPG": ("one", "two"),
        "x.tar/1.5/a.webp": ("grün",),
    }


def test_bad_samples_are_named(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "x.tar",
        {
            **sample("red"),
            "lonely.txt": b"no image",
            "bare.png": image_bytes("red"),
            "broken.png": image_bytes("red"),
            "broken.json": b"{",
            "latin.png": image_bytes("red"),
            "latin.txt": b"caf\xe9",
            "list.png": image_bytes("red"),
            "list.json": b"[5]",
            "long.png": image_bytes("red"),
            "long.txt": b"x" * (1 << 20) + b"x",
        },
    )
    captions = read_captions(shard)
    assert captions.texts == ("a red thing",)
    assert {item.name for item in captions.skipped} == {
        "x.tar/lonely",
        *(f"x.tar/{name}.png" for name in ("bare", "broken", "latin", "list", "long")),
        "x.tar/long.txt",
    }


def test_a_shard_that_ends_early_gives_what_it_has(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "x.tar", sample("red") | sample("blue"))
    with tarfile.open(shard) as tar:
        cut = tar.getmember("blue.png").offset_data + 20
    shard.write_bytes(shard.read_bytes()[:cut])
    captions = read_captions(shard)
    assert captions.texts == ("a red thing",)
    assert captions.skipped[0].name == "x.tar/blue.png"
    assert captions.skipped[0].reason == "the shard ends within it"


def test_patterns_and_folders_of_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "t-008.tar", sample("red"))
    write_tar(tmp_path / "t-009.tar", sample("blue"))
    write_tar(tmp_path / "t-010.tar", sample("green"))
    captions = read_captions(tmp_path / "t-{008..011}.tar")
    assert captions.texts == ("a red thing", "a blue thing", "a green thing")
    assert [item.reason for item in captions.skipped] == ["no such shard"]
    assert read_captions(tmp_path / "t-0*.tar").texts == captions.texts
    assert read_captions(tmp_path).texts == captions.texts
    split = tmp_path / "split.txt"
    split.write_text("t-010.tar/green.png\n")
    assert read_captions(tmp_path, split=split).texts == ("a green thing",)


def test_shards_of_one_name_in_two_folders_keep_their_images_apart(tmp_path: Path) -> None:
    for folder, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / folder).mkdir()
        members = {"0.png": image_bytes(colour), "0.txt": colour.encode()}
        write_tar(tmp_path / folder / "x.tar", members)
    captions = read_captions(tmp_path / "*" / "x.tar")
    assert [image.captions for image in captions.images] == [("red",), ("blue",)]
    for image in captions.images:
        assert decode(image.source).getpixel((0, 0)) == COLOURS[image.captions[0]]


def test_braces_are_spelled_out() -> None:
    names = [str(path) for path in expand_shards(Path("{a,b}-{8..10}.tar"))]
    assert names == ["a-8.tar", "a-9.tar", "a-10.tar", "b-8.tar", "b-9.tar", "b-10.tar"]


def test_what_cannot_be_read_as_shards_says_why(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "x.tar.gz", sample("red"), "w:gz")
    with pytest.raises(DatasetError, match="compressed or damaged"):
        read_captions(packed)
    with pytest.raises(DatasetError, match="download the shards first"):
        read_captions(Path("https://example.org/{000..009}.tar"))
    with pytest.raises(DatasetError, match="write a shorter range"):
        read_captions(tmp_path / "{0..99999999}.tar")
    with pytest.raises(DatasetError, match="cannot read"):
        read_captions(tmp_path / "none-*.tar")
