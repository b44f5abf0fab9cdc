"""The page "Explain": a map with what it is worth, of a sentence, a word, or a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.testing import picture
from tests.serve.pages.conftest import Visit


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Make a picture that is half red, half blue."""
    path = tmp_path / "half.png"
    both = picture("blue", (64, 64))
    both.paste(picture("red", (32, 64)))
    both.save(path)
    return path


def test_a_map_of_a_sentence_a_word_and_a_class(visit: Visit, photo: Path) -> None:
    panel = visit.open("Explain")
    button = panel.get_by_role("button", name="Explain", exact=True)
    button.click()
    visit.sees("choose a photo first")
    panel.locator("input[type=file]").first.set_input_files(photo)
    panel.get_by_role("button", name="Remove Image").wait_for()
    panel.get_by_label("Sentence", exact=True).fill("something red")
    panel.get_by_label("Sentence", exact=True).press("Enter")
    visit.sees("something red: cosine")
    visit.sees("random maps that are as smooth")
    sheet = panel.get_by_role("img", name="the map over the photo")
    smooth = sheet.get_attribute("src")
    panel.get_by_label("patches").check()
    visit.page.wait_for_function(
        "([image, before]) => image.src !== before", arg=[sheet.element_handle(), smooth]
    )
    panel.get_by_role("button", name="red +").click()
    panel.get_by_text("red: cosine").filter(has_not_text="something").wait_for()
    with visit.page.expect_download() as download:
        panel.get_by_role("button", name="Download").click()
    drawn = Image.open(download.value.path()).convert("RGB")
    red, _, blue = np.asarray(drawn).astype(int)[40].T
    left, right = drawn.width // 5, 3 * drawn.width // 5
    assert red[left] > blue[left], "red speaks for red"
    assert red[right] <= blue[right]
    visit.check()
    panel.get_by_label("a class", exact=True).check()
    panel.get_by_label("Class", exact=True).click()
    visit.page.get_by_role("option", name="leaf").click()
    button.click()
    visit.sees("class leaf: log-odds")


def test_it_needs_no_mouse(visit: Visit, photo: Path) -> None:
    panel, keys = visit.open_by_keys("Explain"), visit.page.keyboard
    visit.choose_by_keys(photo)
    panel.get_by_role("button", name="Remove Image").wait_for()
    visit.press(panel.get_by_label("Sentence", exact=True))
    keys.type("something red")
    keys.press("Enter")
    visit.sees("something red: cosine")
    visit.press(panel.get_by_label("smooth"), "ArrowDown")
    assert panel.get_by_label("patches").is_checked()
    visit.press(panel.get_by_role("button", name="red +"), "Space")
    panel.get_by_text("red: cosine").filter(has_not_text="something").wait_for()
    button = panel.get_by_role("button", name="Download")
    assert visit.download(lambda: visit.press(button, "Enter")).read_bytes()[1:4] == b"PNG"
    visit.press(panel.get_by_label("a sentence", exact=True), "ArrowDown")
    visit.press(panel.get_by_label("Class", exact=True), "ArrowDown", "ArrowDown", "Enter")
    visit.press(panel.get_by_role("button", name="Explain", exact=True), "Enter")
    visit.sees("log-odds")
