"""The page "Zero-shot": labels somebody types, bars for each photo, and a table to keep."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.serve.conftest import Served
from tests.serve.pages.conftest import Visit

HOSTILE = "=<img src=http://far/x onerror=alert(1)> {{1}} ${1+1}"


def test_photos_are_named(visit: Visit, served: Served, tmp_path: Path) -> None:
    panel = visit.open("Zero-shot")
    button = panel.get_by_role("button", name="Name the photos")
    button.click()
    visit.sees("choose a photo first")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    photos = [served.place / "photos" / name for name in ("red.png", "blue.png")]
    panel.locator("input[type=file]").first.set_input_files([*photos, broken])
    panel.get_by_text("broken").wait_for()
    visit.sees("not that one fits")
    for too_few in ("", "blue"):
        panel.get_by_label("Labels").fill(too_few)
        button.click()
        visit.sees("write at least two labels, one a line")
        visit.page.get_by_role("button", name="Close").click()
        visit.page.get_by_text("write at least two labels").wait_for(state="detached")
    panel.get_by_label("Labels").fill(f"blue\nred\n{HOSTILE}")
    panel.get_by_role("button", name="Prompt templates").click()
    templates = panel.get_by_label("Templates")
    templates.fill("a photo")
    button.click()
    visit.sees("has 0 times {}")
    templates.fill("a {} photo\na wall that is {}")
    button.click()
    visit.sees("2 of 3 photos named.")
    visit.sees("broken.png: not an image")
    visit.sees(HOSTILE)
    best = panel.get_by_test_id("label-output-value")
    best.nth(1).wait_for()
    assert best.all_inner_texts() == ["red", "blue"]
    with visit.page.expect_download() as download:
        panel.get_by_role("button", name="Download as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert [(row["photo"], row["label"]) for row in rows] == [
        ("red.png", "red"), ("blue.png", "blue"),
    ]  # fmt: skip
    assert f"'{HOSTILE}" in rows[0], "a spreadsheet runs no cell"
    visit.check()
