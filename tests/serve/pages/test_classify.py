"""The page "Classify": what a fitted classifier says, who decides, and why."""

from __future__ import annotations

import asyncio
import csv

from PIL import Image

from miniclip.collection import Index
from miniclip.serve.pages.classify import Alike, Evidence, judge
from miniclip.serve.service import Service
from miniclip.serve.settings import Settings
from miniclip.testing import FakeEncoder
from tests.serve.conftest import Served
from tests.serve.pages.conftest import Visit


def test_training_images_are_shown_where_the_index_has_them(served: Served) -> None:
    photo = served.place / "labelled/leaf/leaf003.png"

    async def nearest(index: Index | None) -> Alike:
        service = Service(FakeEncoder(), index, served.models, Settings(decoders=1))
        await service.start()
        (judged,) = await judge(service, Evidence(service), "made", [str(photo)])
        await service.close()
        return judged.nearest[0]

    with Index.open(served.place / "labelled", FakeEncoder()) as index:
        index.sync()
        shown = asyncio.run(nearest(index))
    assert shown.said == "leaf/leaf003.png (leaf), cosine 1.00"
    assert shown.picture is not None
    with Image.open(shown.picture) as small, Image.open(photo) as large:
        assert small.size == large.size
    assert asyncio.run(nearest(None)) == Alike(shown.said, None)


def test_photos_are_judged(visit: Visit, served: Served) -> None:
    panel = visit.open("Classify")
    visit.sees("It tells apart apple, leaf, sea.")
    button = panel.get_by_role("button", name="Classify")
    button.click()
    visit.sees("choose a photo first")
    known, foreign = served.place / "labelled/leaf/leaf003.png", served.place / "photos/black.png"
    panel.locator("input[type=file]").first.set_input_files([known, foreign])
    panel.get_by_text("black").wait_for()
    button.click()
    visit.sees("of 2 automatic")
    panel.get_by_text("unlike the training images").wait_for()
    assert panel.get_by_test_id("label-output-value").first.inner_text() == "leaf"
    panel.get_by_role("button", name="Training images that look most alike").first.click()
    visit.sees("leaf/leaf003.png (leaf), cosine 1.00")
    with visit.page.expect_download() as download:
        panel.get_by_role("button", name="Download as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert [row["photo"] for row in rows] == ["leaf003.png", "black.png"]
    assert rows[1]["decision"] == "out-of-scope"
    visit.check()
