"""The page "Match": captions of the index, sentences of one's own, and no markup among them."""

from __future__ import annotations

from tests.serve.conftest import Served
from tests.serve.pages.conftest import Visit

HOSTILE = "<img src=http://far/x onerror=alert(1)> **red** ${1+1} [a](http://far)"


def test_a_photo_finds_its_words(visit: Visit, served: Served) -> None:
    panel = visit.open("Match")
    button = panel.get_by_role("button", name="Match")
    button.click()
    visit.sees("choose a photo first")
    panel.locator("input[type=file]").first.set_input_files(served.place / "photos" / "red.png")
    panel.get_by_role("button", name="Remove Image").wait_for()
    button.click()
    visit.sees('The best of the captions of the index: "a red wall"')
    panel.get_by_label("Sentences, one a line").fill(f"green\n{HOSTILE}\n")
    button.click()
    visit.sees(f'The best of 2 sentences: "{HOSTILE}"')
    assert panel.get_by_role("gridcell", name=HOSTILE).or_(panel.get_by_text(HOSTILE)).count() >= 2
    visit.check()
