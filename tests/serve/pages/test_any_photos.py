"""Every page on real photos, with the shipped model and a server of its own. It takes minutes.

MINICLIP_TEST_PHOTOS=FOLDER names the photos; without it nothing here runs, for the other tests of
the pages are quick and know colours alone. MINICLIP_TEST_INDEX=DIR keeps their index for another
time, MINICLIP_TEST_MODEL=DIR is a classifier; without it one learns to tell photos from negatives.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import ImageOps

from miniclip.images import IMAGE_SUFFIXES, decode
from miniclip.probe.model import ClassifierModel
from tests.serve.pages.conftest import ALL_LOOKS, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Locator

FOLDER = os.environ.get("MINICLIP_TEST_PHOTOS")
PAIRS = 8  # photos of each class to learn from
SIDE = 400  # pixels
SEARCHED = re.compile("the best first|Nothing here matches")

pytestmark = pytest.mark.skipif(not FOLDER, reason="MINICLIP_TEST_PHOTOS=FOLDER names the photos")


@dataclass(frozen=True)
class Site:
    """Where the server answers."""

    url: str


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    """Find some of the photos."""
    found = sorted(Path(FOLDER or ".").rglob("*"))
    chosen = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES][:PAIRS]
    assert len(chosen) == PAIRS, f"{FOLDER} holds too few photos"
    return chosen


@pytest.fixture(scope="module")
def labelled(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of small photos and one of their negatives."""
    place = tmp_path_factory.mktemp("labelled")
    for kind in ("photo", "negative"):
        (place / kind).mkdir()
    for number, path in enumerate(photos):
        small = ImageOps.contain(decode(path), (SIDE, SIDE))
        small.save(place / "photo" / f"photo{number}.jpg")
        ImageOps.invert(small).save(place / "negative" / f"negative{number}.jpg")
    return place


@pytest.fixture(scope="module")
def site(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Index the photos, fit a classifier unless there is one, and serve both as users do."""
    place = tmp_path_factory.mktemp("site")
    index = os.environ.get("MINICLIP_TEST_INDEX", str(place / "index"))
    model = os.environ.get("MINICLIP_TEST_MODEL")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(place / "home"))
        subprocess.run(verb("index", FOLDER or "", "--index", index), check=True)
        if not model:
            model = str(place / "model")
            subprocess.run(verb("fit", str(labelled), "-o", model), check=True)
        command = verb("serve", "--port", "0", "--json", "--index", index, "--model", model)
        with (place / "log").open("w") as log:
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    with server:
        try:
            yield Site(json.loads(server.stdout.readline())["url"])
        finally:
            server.send_signal(signal.SIGTERM)
    assert '"level": "error"' not in (place / "log").read_text()


def verb(*words: str) -> list[str]:
    return [sys.executable, "-m", "miniclip", *words]


def drop_three(visit: Visit, panel: Locator, photos: list[Path]) -> None:
    visit.drop(*photos[:3])
    panel.get_by_text(photos[2].stem[:8]).first.wait_for()


def check_table_of_three(visit: Visit, panel: Locator, photos: list[Path]) -> None:
    saved = visit.download(panel.get_by_role("button", name="Download as CSV").click)
    rows = list(csv.DictReader(saved.read_text().splitlines()))
    assert [row["photo"] for row in rows] == [path.name for path in photos[:3]]


def test_search(visit: Visit, photos: list[Path]) -> None:
    panel = visit.open("Search")
    panel.get_by_label("Sentence").fill("people outdoors")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees(SEARCHED)
    visit.check("search-sentence", ALL_LOOKS)
    panel.get_by_label("Sentence").fill("")
    visit.drop(photos[3])
    visit.sees("for this photo, the best first")
    tile = panel.get_by_role("button", name=photos[3].name)
    tile.first.click()
    visit.sees("similarity 1.000")
    visit.check("search-photo", ALL_LOOKS)
    saved = visit.download(panel.get_by_role("button", name="Download").click)
    assert saved.read_bytes().startswith(b"\xff\xd8")
    panel.get_by_role("button", name="More like this").click()
    tile.first.wait_for(state="detached")
    panel.get_by_role("button", name="Filters").click()
    panel.get_by_label("Condition").fill("width >")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("condition, character 8: it ends too early")
    visit.check("search-refused", ALL_LOOKS)


def test_match(visit: Visit, photos: list[Path]) -> None:
    panel = visit.open("Match")
    visit.drop(photos[0])
    panel.get_by_role("button", name="Remove Image").wait_for()
    panel.get_by_role("button", name="Match").click()
    visit.sees(re.compile("of the captions of the index|has no captions"))
    visit.check("match-captions", ALL_LOOKS)
    panel.get_by_label("Sentences, one a line").fill(
        "a photo of an animal\na person outdoors\na drawing\n" + "a long sentence about it " * 9
    )
    panel.get_by_role("button", name="Match").click()
    visit.sees("The best of 4 sentences")
    visit.check("match-sentences", ALL_LOOKS)


def test_zero_shot(visit: Visit, photos: list[Path]) -> None:
    panel = visit.open("Zero-shot")
    drop_three(visit, panel, photos)
    panel.get_by_label("Labels").fill("animal\nperson\nvehicle\nbuilding\nplant\nbirthday party")
    panel.get_by_role("button", name="Prompt templates").click()
    panel.get_by_role("button", name="Name the photos").click()
    visit.sees("3 of 3 photos named.")
    panel.get_by_test_id("label-output-value").nth(2).wait_for()
    visit.check("zero-shot", ALL_LOOKS)
    check_table_of_three(visit, panel, photos)


def test_classify(visit: Visit, photos: list[Path]) -> None:
    panel = visit.open("Classify")
    drop_three(visit, panel, photos)
    panel.get_by_role("button", name="Classify").click()
    visit.sees("of 3 automatic")
    panel.get_by_test_id("label-output-value").nth(2).wait_for()
    panel.get_by_role("button", name="Training images that look most alike").first.click()
    visit.sees("cosine")
    visit.check("classify", ALL_LOOKS)
    check_table_of_three(visit, panel, photos)


def test_explain(visit: Visit, photos: list[Path]) -> None:
    panel = visit.open("Explain")
    visit.drop(photos[4])
    panel.get_by_role("button", name="Remove Image").wait_for()
    panel.get_by_label("Sentence", exact=True).fill("somebody or something in the middle of it")
    panel.get_by_role("button", name="Explain", exact=True).click()
    visit.sees("random maps that are as smooth")
    panel.get_by_role("button", name="middle").wait_for()
    visit.check("explain-sentence", ALL_LOOKS)
    saved = visit.download(panel.get_by_role("button", name="Download").click)
    assert saved.read_bytes().startswith(b"\x89PNG")
    panel.get_by_label("a class", exact=True).check()
    panel.get_by_role("button", name="Explain", exact=True).click()
    visit.sees("log-odds")
    visit.check("explain-class", ALL_LOOKS)


def test_teach(visit: Visit, labelled: Path, tmp_path: Path) -> None:
    panel = visit.open("Teach")
    for kind in ("photo", "negative"):
        files = sorted((labelled / kind).iterdir())
        visit.drop(*files)
        panel.get_by_text(files[-1].stem).first.wait_for()
        panel.get_by_label("Class of what you add").fill(kind)
        panel.get_by_role("button", name="Add", exact=True).click()
        visit.sees(f"{kind}: {PAIRS}")
    visit.drop(labelled / "photo" / "photo0.jpg")
    panel.get_by_text("photo0").first.wait_for()
    panel.get_by_role("button", name="Add", exact=True).click()
    visit.sees("1 to be labelled")
    visit.check("teach-label", ALL_LOOKS)
    panel.get_by_role("button", name="Leave it out").click()
    panel.get_by_role("button", name="Teach", exact=True).click()
    visit.sees("Accuracy ")
    visit.check("teach-figures", ALL_LOOKS)
    saved = visit.download(panel.get_by_role("button", name="Download the model").click)
    with zipfile.ZipFile(saved) as archive:
        archive.extractall(tmp_path)
    assert ClassifierModel.open(tmp_path / "model").classes == ("negative", "photo")


def test_collection(visit: Visit) -> None:
    panel = visit.open("Collection")
    panel.get_by_role("button", name="Show the map").click()
    plot = panel.frame_locator("iframe[title='Map of the collection']").get_by_role("application")
    plot.focus(timeout=600_000)
    plot.press("n")
    visit.check("collection", ALL_LOOKS)


def test_about(visit: Visit) -> None:
    visit.open("About")
    visit.sees("What leaves this machine: nothing.")
    visit.check("about", ALL_LOOKS)
