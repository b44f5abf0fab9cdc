"""The page "Explain": a map with what it is worth, of a sentence, a word, or a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from miniclip.testing import picture
from tests.serve.pages.conftest import Visit


def test_a_map_of_a_sentence_a_word_and_a_class(visit: Visit, tmp_path: Path) -> None:
    photo = tmp_path / "half.png"
    both = picture("blue", (64, 64))
    both.paste(picture("red", (32, 64)))
    both.save(photo)
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
