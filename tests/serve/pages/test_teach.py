"""The page "Teach": photos in, labels given, a model out that predicts."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from miniclip.probe.model import ClassifierModel
from tests.serve.conftest import Served
from tests.serve.pages.conftest import Visit


def test_a_classifier_is_taught_and_taken_home(
    visit: Visit, served: Served, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for name in ("apple", "leaf"):
        shutil.copytree(served.place / "labelled" / name, photos / "all" / name)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    panel = visit.open("Teach")
    teach = panel.get_by_role("button", name="Teach", exact=True)
    teach.click()
    visit.sees("at least two classes")
    add = panel.get_by_role("button", name="Add", exact=True)
    files = panel.locator("input[type=file]").first
    files.set_input_files(packed)
    panel.get_by_text("packed").wait_for()
    add.click()
    visit.sees("apple: 10, leaf: 10")

    sea = tmp_path / "sea"
    sea.mkdir()
    for number in range(4):
        shutil.copy(served.place / "labelled/sea" / f"sea{number:03}.png", sea)
    (sea / "notes.txt").write_text("no photo")
    panel.get_by_label("Class of what you add").fill("sea & <b>sky</b>")
    panel.locator("input[webkitdirectory]").set_input_files(sea)
    visit.sees("sea & <b>sky</b>: 4")

    files = panel.locator("input[type=file]").first
    files.set_input_files([served.place / "labelled/sea" / f"sea{n:03}.png" for n in (7, 8)])
    panel.get_by_text("sea008").wait_for()
    add.click()
    visit.sees("sea007.png, 2 to be labelled")
    visit.check()
    chosen = panel.get_by_label("Its class")
    chosen.click()
    visit.page.get_by_role("option", name="sea & <b>sky</b>").click()
    panel.get_by_role("button", name="Label it").click()
    visit.sees("sea008.png, 1 to be labelled")
    teach.click()
    visit.sees("Mind: 1 without a class, of which it learnt nothing.")
    panel.get_by_role("button", name="Leave it out").click()
    visit.sees("sea & <b>sky</b>: 5")

    teach.click()
    visit.page.get_by_text("without a class").wait_for(state="detached")
    visit.sees("Accuracy ")
    visit.sees("25 images of 3 classes")
    with visit.page.expect_download() as download:
        panel.get_by_role("button", name="Download the model").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    model = ClassifierModel.open(tmp_path / "model")
    assert model.classes == ("apple", "leaf", "sea & <b>sky</b>")
    assert len(model.reference.names) == 25
    visit.check()
    panel.get_by_role("button", name="Begin again").click()
    visit.sees("Add photos of at least two classes")


def test_it_needs_no_mouse(visit: Visit, served: Served, tmp_path: Path) -> None:
    panel, keys = visit.open_by_keys("Teach"), visit.page.keyboard
    for name in ("apple", "leaf"):
        visit.choose_by_keys(*sorted((served.place / "labelled" / name).iterdir())[:6])
        panel.get_by_text(f"{name}005").wait_for()
        visit.press(panel.get_by_label("Class of what you add"))
        keys.type(name)
        keys.press("Enter")
        visit.sees(f"{name}: 6")
    visit.choose_by_keys(served.place / "labelled/leaf/leaf008.png")
    panel.get_by_text("leaf008").wait_for()
    visit.press(panel.get_by_role("button", name="Add", exact=True), "Enter")
    visit.sees("leaf008.png, 1 to be labelled")
    visit.press(panel.get_by_label("Its class"), "ArrowDown", "ArrowDown", "Enter")
    visit.press(panel.get_by_role("button", name="Label it"), "Space")
    visit.sees("leaf: 7")
    visit.press(panel.get_by_role("button", name="Teach", exact=True), "Enter")
    visit.sees("13 images of 2 classes")
    button = panel.get_by_role("button", name="Download the model")
    saved = visit.download(lambda: visit.press(button, "Enter"))
    assert "model/model.json" in zipfile.ZipFile(saved).namelist()
    visit.press(panel.get_by_role("button", name="Begin again"), "Space")
    visit.sees("Add photos of at least two classes")
