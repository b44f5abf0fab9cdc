"""`miniclip robustness` as its users see it, on the tiny bundle of colours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.probe.photos import make_photos

FEW = ("--corruptions", "colour_cast,fog", "--severities", "1,5")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "fruit", 12, spread=25)


def test_a_fitted_model_beside_another_with_a_page(cli: Cli, data: Path, tmp_path: Path) -> None:
    for head in ("kernel", "prototype"):
        fit = ("--head", head, "--folds", 3, "--target-error", 0.1)
        assert cli("fit", data, "-o", tmp_path / head, *fit).code == 0
    page = tmp_path / "page.html"
    words = (
        "robustness", data, "--model", tmp_path / "kernel", "--baseline", tmp_path / "prototype",
        *FEW, "--images", 30, "--html", page, "--json",
    )  # fmt: skip
    said = cli(*words)
    assert said.code == 0
    assert "the vectors are kept in" in said.err
    found = said.json
    assert (found["images"], found["baseline"]) == (30, "prototype")
    assert [model["name"] for model in found["models"]] == ["kernel", "prototype"]
    first, base = found["models"]
    assert {"accuracy", "ece", "coverage", "automatic", "interval"} <= set(first["clean"])
    assert [(c["corruption"], c["severity"]) for c in first["conditions"]] == [
        ("fog", 1), ("fog", 5), ("colour_cast", 1), ("colour_cast", 5),
    ]  # fmt: skip
    assert base["mce"]["value"] == 1
    assert found["comparisons"][0]["overall"]["second"] == "prototype"
    again = cli(*words).json
    assert (found["computed"], again["computed"]) == (30 * 5, 0)
    assert again == found | {"computed": 0}
    html = page.read_text("utf-8")
    assert "What kernel, prototype can bear" in html
    assert "miniclip robustness" in html
    assert not re.search(r"<script|https?://|src=\"(?!data:)", html)
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", html)) == html.count("<img ")


def test_captions_are_escaped_and_labels_need_no_model(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in photos.iterdir())
    rows = [f"{name},<script>alert({number})</script>" for number, name in enumerate(names)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]), "utf-8")
    page = tmp_path / "page.html"
    words = ("--captions", tmp_path / "captions.csv", *FEW, "-o", page, "--json")
    said = cli("robustness", photos, *words).json
    assert said["headline"] == "text to image recall@5"
    assert "image_to_text_recall@1" in said["models"][0]["clean"]
    assert "<script" not in page.read_text("utf-8")
    classes = make_photos(tmp_path / "classes", 2)
    said = cli("robustness", classes, *FEW, "--json").json
    assert said["baseline"] is None
    assert said["models"][0]["mce"] is None
    assert "untrained" in said["models"][0]["judged_by"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--severities", "0,6"), 2, "give some of 1 to 5"),
        (("--corruptions", "rain"), 1, "no corruption is called 'rain'"),
        (("--model", "nothing"), 1, "holds no model.json"),
        (("--captions", "c.csv", "--model", "m"), 2, "which no --model does"),
    ],
)
def test_what_cannot_be_done_is_refused(
    cli: Cli, data: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    said = cli("robustness", data, *words)
    assert said.code == code
    assert message in " ".join(said.err.split())
