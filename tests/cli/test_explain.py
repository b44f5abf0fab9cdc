"""`miniclip explain` from the outside: texts and classes, pictures, pages and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.explain.explanation import METHODS
from tests.cli.conftest import Cli


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Make a photo of many colours with one red quarter, upper left."""
    cells = np.random.default_rng(0).integers(60, 200, size=(6, 8, 3))
    image = Image.fromarray(np.kron(cells, np.ones((10, 10, 1))).astype(np.uint8))
    image.paste((255, 0, 0), (0, 0, 40, 30))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "home"))


def test_a_text_has_a_map_its_worth_and_words(cli: Cli, photo: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "map.png", tmp_path / "map.html"
    words = ("explain", photo, "--text", "<script> magenta red", "-o", out)
    said = cli(*words, "--html", page, "--json").json

    row, column = np.unravel_index(int(np.argmax(said["map"])), (14, 14))
    assert row < 7
    assert column < 7
    assert said["unit"] == "cosine"
    assert [word["word"] for word in said["words"]] == ["<script>", "magenta", "red"]
    assert said["words"][2]["drop"] > said["words"][1]["drop"]
    assert said["credibility"]["verdict"] == "better than chance"
    assert said["randomisation"]["pictures"] == 4
    assert said["skipped"] == []
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"
    html = page.read_text("utf-8")
    assert "&lt;script&gt; magenta red" in html
    assert "<script" not in html
    assert "This map is better than chance" in html

    again = cli(*words)
    assert again.code == 0
    assert "better than chance" in again.out
    assert "shuffled weights: " in again.out
    assert "wrote" in again.err


def test_a_class_of_a_fitted_model_is_explained(cli: Cli, photo: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            noisy = np.clip(rng.normal(colour, 40, size=(32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "data" / name / f"{number}.png")
    model = tmp_path / "model"
    assert cli("fit", tmp_path / "data", "-o", model, "--folds", "3").code == 0

    base = ("explain", photo, "--model", model, "-o", tmp_path / "map.png", "--no-check", "--json")
    said = cli(*base, "--view", "patches", "--method", "occlusion").json
    other = cli(*base, "--class", {"red": "blue", "blue": "red"}[said["class"]]).json
    unknown = cli(*base, "--class", "green")

    assert said["unit"] == "log-odds"
    assert said["probability"] == pytest.approx(1 / (1 + np.exp(-said["score"])), abs=1e-4)
    assert said["randomisation"] is None
    assert other["score"] == pytest.approx(-said["score"], abs=1e-4)  # of two classes
    assert unknown.code == 1
    assert "no class 'green'" in unknown.err


def test_a_flat_picture_has_no_credible_map(cli: Cli, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    words = ("--text", "red", "-o", tmp_path / "map.png", "--no-check")
    result = cli("explain", tmp_path / "red.png", *words)
    assert "no better than chance" in result.out


@pytest.mark.parametrize(
    "words",
    [
        ("-o", "map.png"),
        ("-o", "map.png", "--text", "a", "--model", "m"),
        ("-o", "map.png", "--text", "a", "--class", "c"),
        ("-o", "map.jpg", "--text", "a"),
        ("-o", "map.png", "--text", "a", "--method", "guess"),
    ],
)
def test_misuse_exits_with_2(cli: Cli, photo: Path, words: tuple[str, ...]) -> None:
    assert cli("explain", photo, *words).code == 2


def test_the_verb_offers_every_method() -> None:
    from miniclip.cli.explain import Method  # noqa: PLC0415

    assert {method.value for method in Method} == set(METHODS)
