"""The pages in a real browser: a server of colours, and a look at each page for what is amiss.

Skipped where playwright, axe or a Chromium is missing. MINICLIP_TEST_SHOTS=FOLDER keeps a picture
of each page as it was when it was looked at, wide and on a phone, in light and dark.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright", reason="pages are tested with playwright: pip install '.[dev]'")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    sync_playwright,
)

from miniclip.serve.settings import Settings
from tests.serve.conftest import Served
from tests.serve.running import Running, running

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 60_000  # ms; a busy machine draws slowly
HARMLESS = ("minor", "moderate")
SHOTS = os.environ.get("MINICLIP_TEST_SHOTS")
# Two frames for a change to begin, then the end of whatever ends; what turns for ever does not.
SETTLED = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const ending = () => document.getAnimations().filter(
    one => one.playState === "running" && isFinite(one.effect.getComputedTiming().endTime));
  do {
    await frame();
    await frame();
    await Promise.allSettled(ending().map(one => one.finished));
  } while (ending().length);
}"""
FAR = 60  # more stops of the Tab key than any page has
Look = tuple[dict[str, int], str]
TWO_LOOKS: tuple[Look, ...] = ((WIDE, "light"), (PHONE, "dark"))
ALL_LOOKS: tuple[Look, ...] = (*TWO_LOOKS, (WIDE, "dark"), (PHONE, "light"))


@pytest.fixture(scope="session")
def site(served: Served) -> Iterator[Running]:
    """Serve the pages of what is served."""
    with running(
        Settings(port=0),
        index=served.index,
        models=served.models,
        place=served.place,
        pages=True,
        card="# A card\n<b>colours</b> alone ![x](http://far/x.png)",
        licence="none",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def browser(site: Running) -> Iterator[BrowserContext]:
    """Start a browser without a head; its visits share what it has loaded.

    It comes after the server and goes with its file: as long as playwright is there, an event loop
    runs in this thread, and nobody else can have one.
    """
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if not path:
        pytest.skip("there is no Chromium to look at the pages with")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        context = chromium.new_context(viewport=WIDE, accept_downloads=True)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        yield context
        chromium.close()


@dataclass
class Visit:
    """One document that a person looks at, and what went wrong on the way."""

    page: Page
    url: str
    amiss: list[str] = field(default_factory=list)

    def open(self, name: str) -> Locator:
        """Choose a tab and return its panel."""
        self.page.get_by_role("tab", name=name, exact=True).click()
        return self.panel

    def open_by_keys(self, name: str) -> Locator:
        """Choose a tab without a mouse and return its panel."""
        self.press(self.page.get_by_role("tab", name=name, exact=True), "Enter")
        return self.panel

    @property
    def panel(self) -> Locator:
        """The panel of the chosen tab."""
        return self.page.get_by_role("tabpanel").filter(visible=True).first

    @property
    def field(self) -> Locator:
        """What files are dropped on, and what opens the chooser of files."""
        return self.panel.locator("button:has(input[type=file])").first

    def sees(self, text: str | re.Pattern[str]) -> None:
        """Wait for a text."""
        self.page.get_by_text(text).filter(visible=True).first.wait_for()

    def press(self, target: Locator, *keys: str) -> None:
        """Go to an element with the Tab key alone, see where the focus is, and press keys there."""
        target.wait_for()
        for _ in range(FAR):
            if target.evaluate("element => element === document.activeElement"):
                break
            self.page.keyboard.press("Tab")
        else:
            raise AssertionError(f"the Tab key does not lead to {target}")
        ring = "element => getComputedStyle(element).outlineStyle"
        assert target.evaluate(ring) != "none", "nobody sees where the focus is"
        for key in keys:
            self.page.keyboard.press(key)

    def choose_by_keys(self, *files: Path) -> None:
        """Open the chooser of files with the Enter key, and choose some."""
        with self.page.expect_file_chooser() as chooser:
            self.press(self.field, "Enter")
        chooser.value.set_files(files)

    def download(self, act: Callable[[], None]) -> Path:
        """Do what begins a download, and return where the file lies."""
        with self.page.expect_download() as coming:
            act()
        return Path(coming.value.path())

    def drop(self, *files: Path) -> None:
        """Drag files of the disk to their field and drop them, as the browser itself does it."""
        self.field.scroll_into_view_if_needed()
        box = self.field.bounding_box()
        assert box is not None
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        session = self.page.context.new_cdp_session(self.page)
        for step in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": step, "data": data, **place})
        session.detach()

    def check(self, name: str = "", looks: Sequence[Look] = TWO_LOOKS) -> None:
        """Look for barriers and for what does not fit: wide in light, on a phone in the dark.

        name: of the pictures to keep.
        """
        for size, scheme in looks:
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            self.settle()
            if SHOTS and name:
                path = Path(SHOTS, f"{name}-{size['width']}-{scheme}.png")
                self.page.screenshot(path=path, full_page=True)
            found = Axe().run(self.page).response["violations"]
            barriers = [_told(one) for one in found if one["impact"] not in HARMLESS]
            assert barriers == [], f"{scheme}, {size['width']} pixels"
            width = self.page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"]
        self.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        self.page.emulate_media(color_scheme="light")

    def settle(self) -> None:
        """Wait until nothing fades or moves any more: a colour on its way to another is none."""
        self.page.evaluate(SETTLED)

    def listen(self) -> None:
        """Remember errors, and requests to anybody else."""
        self.page.on("pageerror", lambda error: self.amiss.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.amiss.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.amiss.append(f"asks {request.url}")


@pytest.fixture
def visit(browser: BrowserContext, site: Running) -> Iterator[Visit]:
    """Look at the pages; at the end nothing may have gone wrong and nobody else been asked."""
    visit = Visit(browser.new_page(), site.url)
    visit.listen()
    visit.page.goto(site.url)
    visit.page.get_by_role("tab").first.wait_for()
    yield visit
    visit.page.close()
    assert visit.amiss == []


def _told(violation: dict[str, Any]) -> str:
    places = [node["html"][:200] for node in violation["nodes"]]
    return f"{violation['id']}: {places}"
