"""Every page in a real browser, from disk and without a network: whole, quiet, and fit for phones.

The pages are made by the verbs themselves, of files, classes and captions that would be scripts if
anything let them. Needs playwright and a Chromium.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.cli import main
from tests.probe.photos import make_photo
from tests.tiny_bundle import COLOURS

sync_api = pytest.importorskip("playwright.sync_api", reason="these tests need playwright")

SCRIPT = "<script>alert(1)</script>"
NASTY = "<img src=x onerror=alert(2)>"  # a file name may hold all but a slash
WIDTHS = (1280, 390)
SHOWN = {
    SCRIPT: ("explain", "retrieval", "health", "audit_bias", "matrix", "search"),
    NASTY: ("fit", "evaluation", "robustness", "audit_groups", "duplicates"),
}
"""Pages that show a caption, a word, the name of a data set, of a class or of a file."""

VERBS = {
    "fit": "fit classes -o model --folds 3 --head prototype --target-error 0.1",
    "evaluation": "evaluate classifier model classes --html evaluation.html",
    "explain": "explain photos/red.png --text QUESTION -o map.png --html explain.html",
    "robustness": "robustness classes --model model --corruptions fog,gaussian_noise --images 24 "
    "--severities 1,5 -o robustness.html",
    "audit_groups": "audit groups model classes --column folder:1 --html audit_groups.html",
    "audit_data": "audit data classes --html audit_data.html",
    "audit_bias": "audit bias --x x.txt --y y.txt --a a.txt --b b.txt --html audit_bias.html",
    "matrix": "evaluate all matrix.toml -o results",
    "health": "evaluate health --images photos --captions captions.csv --html health.html",
    "retrieval": "evaluate retrieval --images photos --captions captions.csv --html retrieval.html",
    "index": "index photos",
    "search": "search QUESTION photos --html search.html",
    "map": "map photos --html map.html",
    "duplicates": "duplicates photos --html duplicates.html",
    "demo": "demo -o demo",
}
PAGES = {name: f"{name}.html" for name in VERBS if name != "index"} | {
    "fit": "model/report.html",
    "matrix": "results/results.html",
    "demo": "demo/demo.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """Make every page there is."""
    folder = tmp_path_factory.mktemp("site")
    _make_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MINICLIP_HOME", str(folder / "home"))
        patch.setenv("MINICLIP_BUNDLE", str(tiny_bundle.directory))
        for line in VERBS.values():
            words = [word.replace("QUESTION", f"{SCRIPT} red") for word in line.split()]
            said = StringIO()
            with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
                main(words)
            assert not ended.value.code, f"miniclip {line}: {said.getvalue()}"
    return folder


def _make_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, name in (("apple", NASTY), ("leaf", "leaf"), ("sea", "sea" + "_and_sea" * 12)):
        (folder / "classes" / name).mkdir(parents=True)
        for number in range(12):
            picture = make_photo(label, rng, spread=25)
            picture.save(folder / "classes" / name / f"{NASTY}{number}.png")
    (folder / "photos").mkdir()
    for colour, value in COLOURS.items():
        Image.new("RGB", (60, 40), value).save(folder / "photos" / f"{colour}.png")
    shutil.copy(folder / "photos" / "red.png", folder / "photos" / f"{NASTY}.png")
    rows = [f"{colour}.png,a {colour} square {SCRIPT}" for colour in COLOURS]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *rows]), "utf-8")
    for name, words in {"x": "red\ngreen", "y": "blue\nblack", "a": "magenta", "b": "cyan"}.items():
        (folder / f"{name}.txt").write_text(f"{words}\n{SCRIPT} {name}\nwhite\n", "utf-8")
    (folder / "matrix.toml").write_text(
        f'resamples = 20\nbundles = [{{name = "{SCRIPT}"}}, {{name = "two"}}]\n'
        f'[[data]]\nname = "{SCRIPT}"\ncaptions = "captions.csv"\nimages = "photos"\n'
        '[[data]]\nname = "classes"\nlabelled = "classes"\ntasks = ["zeroshot"]\n',
        "utf-8",
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a Chromium: that of the system, or the one that playwright brings."""
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox", "--disable-gpu"],
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@dataclass
class Heard:
    """What a page did beside showing itself."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._refuse)
        page.on("request", lambda request: self.requests.append(request.url))

    def _refuse(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_quiet_and_fits(browser: Any, site: Path, name: str) -> None:
    heard, url = Heard(), (site / PAGES[name]).as_uri()
    context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
    context.set_offline(True)
    page = context.new_page()
    heard.listen(page)
    page.goto(url)
    inks = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        inks.append(page.evaluate("getComputedStyle(document.body).color"))
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (scheme, width)

    missing = "[...document.images].filter(one => !one.complete || !one.naturalWidth).length"
    assert page.evaluate(missing) == 0
    assert page.evaluate("[...document.images].filter(one => !one.alt).length") == 0
    assert page.locator("h1").count() == 1
    assert inks[0] != inks[1]
    assert page.evaluate("document.scripts.length") == (2 if name == "map" else 0)
    text = page.locator("body").inner_text()
    assert [code for code in SHOWN if name in SHOWN[code] and code not in text] == []
    assert heard.complaints == []
    assert [one for one in heard.requests if not one.startswith(("data:", "blob:"))] == [url]
    context.close()


def test_a_map_that_shows_all_cuts_no_picture(browser: Any, site: Path) -> None:
    """Few pictures are large, and half of each lies beyond its place."""
    inside = """data.x.every((x, i) => {
        const [px, py] = toScreen(x, data.y[i]), { w, h } = size(), half = side() / 2;
        return px >= half && py >= half && px <= w - half && py <= h - half;
    })"""
    page = browser.new_page()
    page.goto((site / PAGES["map"]).as_uri())
    for width, height in ((1280, 900), (390, 700), (700, 390)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate(inside), (width, height)
    page.keyboard.press("0")
    assert page.evaluate(inside)
    page.close()
