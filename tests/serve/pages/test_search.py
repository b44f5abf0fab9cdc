"""The page "Search": words, a photo, filters, a chosen picture, more like it, no match."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.serve.conftest import Served
from tests.serve.pages.conftest import PHONE, Visit


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
    visit.sees("11 pictures for this photo")
    panel.get_by_role("button", name="green.png").click()
    panel.get_by_role("button", name="More like this").click()
    visit.sees("10 pictures for this photo")
    assert not panel.get_by_role("button", name="green.png").count()


def test_what_a_click_brings_is_in_sight(visit: Visit) -> None:
    panel = visit.open("Search")
    visit.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    panel.get_by_label("Sentence").fill("a red wall")
    panel.get_by_role("button", name="Filters").click()
    panel.get_by_label("number input for Confidence").fill("0")
    panel.get_by_label("Sentence").press("Enter")
    visit.sees('for "a red wall", the best first. ? marks what most likely is no match.')
    panel.get_by_role("button", name="red.png").click()
    expect(panel.get_by_role("button", name="Download")).to_be_in_viewport()
    panel.get_by_role("button", name="More like this").click()
    visit.sees("pictures for this photo")
    expect(panel.get_by_text("pictures for this photo")).to_be_in_viewport()


def test_the_figure_on_a_picture_is_the_one_that_ranks(visit: Visit) -> None:
    panel = visit.open("Search")
    panel.get_by_role("button", name="Filters").click()
    panel.get_by_label("number input for Confidence").fill("0")
    panel.get_by_label("Sentence").fill("red")
    panel.get_by_label("Sentence").press("Enter")
    visit.sees("? marks what most likely is no match")
    tiles = panel.get_by_role("button", name=".png").all()
    names = [tile.get_attribute("aria-label") or "" for tile in tiles]
    scores = [float(name.split()[0]) for name in names]
    assert scores == sorted(scores, reverse=True)
    assert not any("%" in name for name in names)
    assert " ? " not in names[0]
    assert all(" ? " in name for name in names if "blue" in name)


def test_a_folder_may_be_written_in_any_way(visit: Visit, served: Served) -> None:
    panel = visit.open("Search")
    panel.get_by_role("button", name="Filters").click()
    panel.get_by_label("Sentence").fill("red")
    for folder in (".", "./", str(served.place / "photos"), f"{served.place}/photos/"):
        panel.get_by_label("Folder").fill("nowhere")
        panel.get_by_role("button", name="Search", exact=True).click()
        visit.sees("with these filters")
        panel.get_by_label("Folder").fill(folder)
        panel.get_by_role("button", name="Search", exact=True).click()
        visit.sees('for "red", the best first')


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
    panel.get_by_label("Taken from").fill("2024-13")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("'2024-13' is no date; write 2024, 2024-05 or 2024-05-01")
    panel.get_by_label("Taken from").fill("")
    panel.get_by_label("Condition").fill("width >")
    panel.get_by_role("button", name="Search", exact=True).click()
    visit.sees("condition, character 8: it ends too early; expected a date")
