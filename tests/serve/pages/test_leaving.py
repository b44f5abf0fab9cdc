"""The page "Explain" works for who looks at it, and at what was asked last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from miniclip.serve.settings import Settings
from tests.serve.pages.conftest import Visit
from tests.serve.running import Running, png, running
from tests.serve.slow import MAP, SlowEncoder, until

ENCODER = SlowEncoder()


@pytest.fixture(scope="module")
def site() -> Iterator[Running]:
    """Serve the pages of a slow model."""
    with running(Settings(port=0), encoder=ENCODER, pages=True) as server:
        yield server


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Make a picture of one colour."""
    path = tmp_path / "red.png"
    path.write_bytes(png("red"))
    return path


def ask(visit: Visit, photo: Path) -> None:
    panel = visit.open("Explain")
    panel.locator("input[type=file]").first.set_input_files(photo)
    panel.get_by_role("button", name="Remove Image").wait_for()
    panel.get_by_label("Sentence", exact=True).fill("something red")
    panel.get_by_role("button", name="Explain", exact=True).click()


def test_a_page_that_is_closed_asks_nothing_more(
    browser: BrowserContext, site: Running, photo: Path
) -> None:
    visit = Visit(browser.new_page(), site.url)
    visit.page.goto(site.url)
    before = ENCODER.asked
    ask(visit, photo)
    until(lambda: ENCODER.asked > before + 16)
    visit.page.close()
    ENCODER.settle()
    assert ENCODER.asked - before < MAP / 2


def test_another_word_takes_the_place_of_the_first(visit: Visit, photo: Path) -> None:
    ask(visit, photo)
    visit.sees("something red: cosine")
    before = ENCODER.asked
    visit.panel.get_by_role("button", name="red +").click()
    until(lambda: ENCODER.asked > before + 16)
    visit.panel.get_by_role("button", name="something +").or_(
        visit.panel.get_by_role("button", name="something -")
    ).click()
    visit.panel.get_by_text("something: cosine").wait_for()
    ENCODER.settle()
    assert visit.panel.get_by_text("something: cosine").is_visible(), "the first writes no more"
    assert ENCODER.asked - before < 1.5 * MAP


def test_asking_anew_takes_the_place_too(visit: Visit, photo: Path) -> None:
    before = ENCODER.asked
    ask(visit, photo)
    until(lambda: ENCODER.asked > before + 16)
    visit.panel.get_by_label("Sentence", exact=True).fill("a blue wall")
    visit.panel.get_by_role("button", name="Explain", exact=True).click()
    visit.sees("a blue wall: cosine")
    ENCODER.settle()
    assert ENCODER.asked - before < 1.5 * MAP
