"""`miniclip audit` on the command line; what it must not say is in tests/audit."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Cli
from tests.tiny_bundle import COLOURS


@pytest.fixture
def sets(tmp_path: Path) -> list[object]:
    """Words and photos of two colours, as the options X, Y, A and B."""
    colours = list(COLOURS)[:2]
    words: list[object] = []
    for option, colour in zip("xy", colours, strict=True):
        folder = tmp_path / f"{colour} photos"
        folder.mkdir()
        for width in (20, 30, 40):
            Image.new("RGB", (width, 30), COLOURS[colour]).save(folder / f"{width}.png")
        words += [f"--{option}", folder]
    for option, colour in zip("ab", colours, strict=True):
        path = tmp_path / f"{colour}.txt"
        path.write_text(f"{colour}\n# a comment\na {colour} thing\n")
        words += [f"--{option}", path]
    return words


def test_images_lie_nearer_to_their_words(cli: Cli, sets: list[object], tmp_path: Path) -> None:
    done = cli("audit", "bias", *sets, "--json", "--html", tmp_path / "bias.html")

    assert done.code == 0, done.err
    assert done.json["effect"] > 1.5
    assert done.json["p"] == pytest.approx(1 / 20)
    assert done.json["exact"] is True
    assert done.json["sizes"] == [3, 3, 2, 2]
    assert (tmp_path / "bias.html").is_file()
    assert "nearer: " in cli("audit", "bias", *sets).out


def test_words_and_images_are_no_pair(cli: Cli, sets: list[object]) -> None:
    done = cli("audit", "bias", *sets[:2], "--y", sets[5], *sets[4:])

    assert done.code == 2
    assert "both words, or both images" in done.err


def test_a_folder_is_told_and_stripped(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"nothing")
    card, out = tmp_path / "card.md", tmp_path / "clean"

    done = cli("audit", "data", photos, "--json", "--card", card, "--strip", out)

    assert done.code == 0, done.err
    assert done.json["images"] == len(COLOURS)
    assert done.json["stripped"]["written"] == len(COLOURS)
    assert len(done.json["skipped"]) == 1
    assert card.read_text().startswith("# Data of photos\n")
    assert len(list(out.iterdir())) == len(COLOURS)
    assert cli("audit", "data", photos, "--strict").code == 1
    inside = cli("audit", "data", photos, "--strip", photos / "clean")
    assert (inside.code, "lie in one another" in inside.err) == (1, True)


def test_subgroups_need_a_column(cli: Cli, photos: Path) -> None:
    done = cli("audit", "groups", photos, photos)

    assert done.code == 2
    assert "--column" in done.err
