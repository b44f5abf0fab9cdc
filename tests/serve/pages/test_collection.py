"""The page "Collection": a map in a sandbox."""

from __future__ import annotations

from tests.serve.pages.conftest import Visit
from tests.serve.running import Running


def test_the_map_is_drawn_and_can_be_walked_through(visit: Visit, site: Running) -> None:
    panel = visit.open("Collection")
    panel.get_by_role("button", name="Show the map").click()
    document = panel.frame_locator("iframe[title='Map of the collection']")
    document.get_by_role("application").focus()
    document.get_by_role("application").press("n")
    document.get_by_text(".png").first.wait_for()
    visit.check()
    with site.http() as http:
        answer = http.get("/collection/map")
        assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"


def test_the_map_is_walked_through_without_a_mouse(visit: Visit) -> None:
    panel = visit.open_by_keys("Collection")
    visit.press(panel.get_by_role("button", name="Show the map"), "Enter")
    document = panel.frame_locator("iframe[title='Map of the collection']")
    picked = document.locator("#picked")
    picked.wait_for()
    visit.press(document.get_by_role("application"), "n")
    picked.get_by_text(".png").wait_for()
    first = picked.inner_text()
    visit.page.keyboard.press("n")
    assert picked.inner_text() != first
    visit.page.keyboard.press("p")
    assert picked.inner_text() == first
