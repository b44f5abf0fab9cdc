"""The page "Search": words, a photo, filters, a chosen picture, more like it, no match."""

from __future__ import annotations

from pathlib import Path

from tests.serve.conftest import Served
from tests.serve.pages.conftest import Visit


def test_words_find_a_picture_that_can_be_chosen_and_taken_home(visit: Visit) -> None:
    panel = visit.open("Search")
    panel.get_by_label("Sentence").fill("a red wall")
    panel.get_by_label("Sentence").press("Enter")
    visit.sees('for "a red wall", the best first')
    tile = panel.get_by_role("button", name="red.png")
    tile.focus()
    visit.page.keyboard.press("Enter")
    visit.sees("a red wall")  # its caption
    with visit.page.expect_download() as coming:
        panel.get_by_role("button", name="Download").or_(
            panel.get_by_role("link", name="Download")
        ).first.click()
    saved = Path(coming.value.path()).read_bytes()
    assert coming.value.suggested_filename == "red.jpg"
    assert saved.startswith(b"\xff\xd8")
    visit.check()


def test_a_photo_finds_what_looks_like_it_and_more(visit: Visit, served: Served) -> None:
    panel = visit.open("Search")
    panel.locator("input[type=file]").set_input_files(served.place / "photos" / "blue.png")
    visit.sees("11 pictures for this picture")
    panel.get_by_role("button", name="green.png").click()
    panel.get_by_role("button", name="More like this").click()
    visit.sees("10 pictures for this picture")
    assert not panel.get_by_role("button", name="green.png").count()


def test_what_is_not_there_is_said(visit: Visit) -> None:
    panel = visit.open("Search")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("write a sentence, or choose a photo")
    panel.get_by_role("button", name="Filters").click()
    panel.get_by_label("Sentence").fill("red")
    panel.get_by_label("Folder").fill("it's <b>not</b> here")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees('Nothing here matches "red" with these filters.')
    panel.get_by_label("Folder").fill("")
    panel.get_by_label("Taken from").fill("yesterday")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("'yesterday' is no date; write 2024, 2024-05 or 2024-05-01")
    panel.get_by_label("Taken from").fill("")
    panel.get_by_label("Condition").fill("width >")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("condition, character 8: it ends too early; expected a date")
