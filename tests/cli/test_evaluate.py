"""`miniclip evaluate all`, `health` and `retrieval --html`: what they print, write and show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Cli
from tests.report.test_pages import Page

EVIL = "<script>alert(1)</script> a red | square"
CONFIG = """
resamples = 20

[[bundles]]
name = "tiny"

[[bundles]]
name = "<script>gone</script>"
bundle = "no such bundle"

[[data]]
name = "squares <script>"
captions = "photos/captions.csv"

[[data]]
name = "colours"
labelled = "colours"
tasks = ["zeroshot", "fewshot"]

[zeroshot]
templates = ["a {}"]

[fewshot]
shots = [1, 2]
draws = 2
"""


@pytest.fixture
def captions(photos: Path) -> Path:
    """Caption the photos by their colours; one caption is hostile, and so is its match."""
    rows = [f"{path.name},a {path.stem} square" for path in sorted(photos.iterdir())]
    table = photos / "captions.csv"
    table.write_text("\n".join(["image,caption", *rows, f'red.png,"{EVIL}"', "gone.png,gone"]))
    return table


def safe(path: Path) -> Page:
    """Read a page that is whole, has no script, no request and no picture without words."""
    page = Page(path)
    assert page.all("script") == []
    assert "<script" not in page.source
    assert all(image["alt"] for image in page.all("img"))
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    assert page.all("link") == []
    return page


def test_the_retrieval_page_marks_hits_and_misses(cli: Cli, captions: Path, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    words = ("evaluate", "retrieval", "--images", captions.parent, "--captions", captions)
    said = cli(*words, "--html", html, "--json").json
    page = safe(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a red | square" in page.source
    assert page.source.count("✓ right") >= page.source.count("hit: its image comes first") > 0
    assert f"{100 * said['text_to_image']['recall@1']:.1f} %" in page.source
    assert "evaluate retrieval" in page.source
    assert said == cli(*words, "--json").json


def test_health_measures_the_space_and_draws_it(cli: Cli, captions: Path, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    words = ("evaluate", "health", "--captions", captions)
    outcome = cli(*words, "--html", html, "--json")
    said = outcome.json
    assert (outcome.code, said["bundle"]) == (0, "tiny")
    assert said["temperature"] == pytest.approx(1 / 20)
    assert 0 < said["modality_gap"] < 2
    assert said["matched_cosine"] > said["unmatched_cosine"]
    assert [one["path"] for one in said["skipped"]] == ["gone.png"]
    assert len(said["interval"]) == 10

    page = safe(html)
    assert "&lt;script&gt;alert(1)" in page.source
    for name in said["interval"]:
        assert f"{said[name]:.3f} [" in page.source  # all below 10 here
    assert "modality_gap" in cli(*words).out
    assert cli(*words, "--strict").code == 1


@pytest.fixture
def config(captions: Path, tmp_path: Path) -> Path:
    for colour, rgb in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        folder = tmp_path / "colours" / colour
        folder.mkdir(parents=True)
        for number in range(12):
            image = Image.new("RGB", (32, 32), rgb)
            image.paste((0, 80, 20 * number), (2 * number, number, 31, 8 + 2 * number))
            image.save(folder / f"{number}.png")
    path = tmp_path / "matrix.toml"
    path.write_text(CONFIG)
    return path


def test_all_writes_lines_and_tables_and_goes_on_after_a_failure(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = cli("evaluate", "all", config, "-o", out, "--json")
    said = outcome.json
    assert outcome.code == 1  # one bundle is not there
    done = {(cell["data"], cell["task"]): cell for cell in said["cells"] if not cell["error"]}
    assert list(done) == [
        ("squares <script>", "retrieval"),
        ("colours", "zeroshot"),
        ("colours", "fewshot"),
    ]
    assert len(said["failed"]) == 3
    assert "failed: colours / zeroshot" in outcome.err
    assert said["comparisons"] == []

    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [cell["key"] for cell in said["cells"]]
    page, markdown = safe(out / "results.html"), (out / "results.md").read_text()
    assert "<script" not in markdown
    assert "&lt;script&gt;gone" in page.source
    top1 = done["colours", "zeroshot"]["figures"]["top1"]
    shown = f"{100 * top1['value']:.1f} % [{100 * top1['interval'][0]:.1f}, "
    assert shown in page.source
    assert shown in markdown

    again = cli("evaluate", "all", config, "-o", out, "--json").json
    assert (again["kept"], again["cells"]) == (3, said["cells"])


def test_equal_bundles_are_compared_and_equal(cli: Cli, config: Path, tmp_path: Path) -> None:
    config.write_text(
        CONFIG.replace('"<script>gone</script>"\nbundle = "no such bundle"', '"twin"')
    )
    out = tmp_path / "out"
    outcome = cli("evaluate", "all", config, "-o", out)
    assert outcome.code == 0
    assert "5 paired comparisons, 0 with a difference" in outcome.out
    assert outcome.err.count("of 6: ") == 6
    assert (out / "results.md").read_text().count("no difference") == 5
    assert safe(out / "results.html").source.count("<td>no difference</td>") == 5


def test_a_mistake_in_the_configuration_is_one_line(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "matrix.toml"
    config.write_text("[[bundle]]\nname = 1")
    outcome = cli("evaluate", "all", config, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "error: unknown key bundle; did you mean bundles?\n"
    assert not (tmp_path / "out").exists()
