"""A folder in which every tenth file is bad: the good ones are used, the bad ones are named."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Cli

GREEN = (0, 255, 0)


def _plain(path: Path) -> None:
    Image.new("RGB", (40, 30), GREEN).save(path)


def _noise(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _truncated(path: Path) -> None:
    _noise(path)
    path.write_bytes(path.read_bytes()[:3000])


def _bomb(path: Path) -> None:
    """Write the header of a PNG of 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


# Odd, but images: every one of them is used.
ODD: dict[str, Callable[[Path], None]] = {
    "cmyk.jpg": lambda path: Image.new("CMYK", (40, 30), (255, 0, 255, 0)).save(path),
    "sixteen.png": lambda path: Image.fromarray(np.full((30, 40), 65_535, dtype=np.uint16)).save(
        path
    ),
    "animated.gif": lambda path: Image.new("RGB", (40, 30), GREEN).save(
        path, save_all=True, append_images=[Image.new("RGB", (40, 30), (255, 0, 0))]
    ),
    "rotated.jpg": lambda path: Image.new("RGB", (40, 30), GREEN).save(
        path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "palette.png": lambda path: Image.new("RGB", (40, 30), GREEN).quantize(4).save(path),
    "alpha.png": lambda path: Image.new("RGBA", (40, 30), (*GREEN, 128)).save(path),
}
# Bad: file -> a word of the reason.
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero.jpg": (lambda path: path.touch(), "empty (0 bytes)"),
    "text.jpg": (lambda path: path.write_text("Dear reader, this is no photo."), "image"),
    "truncated.jpg": (_truncated, "cut off"),
    "bomb.png": (_bomb, "pixels"),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "does not exist"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(30):
        _plain(folder / f"good{number:02}.jpg")
    for name, make in ODD.items():
        make(folder / name)
    for name, (spoil, _) in BAD.items():
        spoil(folder / name)
    return folder


def test_every_good_image_is_used_and_every_bad_one_is_named(cli: Cli, folder: Path) -> None:
    result = cli("search", "green", folder, "--top", 1000, "--json")

    assert result.code == 0
    used = {Path(hit["path"]).name for hit in result.json["hits"]}
    assert used == {f"good{number:02}.jpg" for number in range(30)} | set(ODD)
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in result.json["skipped"]}
    assert set(reasons) == set(BAD)
    for name, (_, word) in BAD.items():
        assert word in reasons[name]


def test_the_skipped_are_counted_on_stderr_and_strict_makes_them_an_error(
    cli: Cli, folder: Path
) -> None:
    lenient = cli("search", "green", folder)
    strict = cli("search", "green", folder, "--strict", "--json")

    assert "warning: 5 of 41 images were skipped:" in lenient.err
    assert f"{folder}/zero.jpg: the file is empty" in lenient.err
    assert lenient.code == 0
    assert strict.code == 1
    assert len(strict.json["skipped"]) == 5


@pytest.mark.parametrize("verb", ["embed", "classify"])
def test_the_other_verbs_skip_in_the_same_way(
    cli: Cli, folder: Path, tmp_path: Path, verb: str
) -> None:
    options: dict[str, list[object]] = {
        "embed": ["-o", tmp_path / "v.npz"],
        "classify": ["--labels", "green,red"],
    }

    more = options[verb]

    result = cli(verb, folder, *more, "--json")

    assert result.code == 0
    assert len(result.json["skipped"]) == 5
    assert "warning: 5 of 41 images" in result.err
    assert cli(verb, folder, *more, "--strict").code == 1


def test_only_the_first_reasons_are_printed_when_there_are_many(cli: Cli, tmp_path: Path) -> None:
    _plain(tmp_path / "good.png")
    for number in range(14):
        (tmp_path / f"bad{number:02}.jpg").write_bytes(bytes([number]))

    result = cli("search", "green", tmp_path)

    lines = result.err.splitlines()
    assert lines[0] == "warning: 14 of 15 images were skipped:"
    assert len(lines) == 12
    assert lines[-1] == "  ... and 4 more; --json lists all"


def test_a_folder_without_one_good_image_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")

    result = cli("search", "green", tmp_path, "--json")

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: none of the 1 images can be read; the first, ")


def test_a_file_without_read_permission_is_named(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's refusal is played, because root, as which tests may run, reads everything."""
    locked = folder / "locked.jpg"
    _plain(locked)
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)

    result = cli("search", "green", folder, "--json")

    reasons = {Path(entry["path"]).name: entry["reason"] for entry in result.json["skipped"]}
    assert "permission" in reasons["locked.jpg"]
    assert len(result.json["hits"]) == 12
