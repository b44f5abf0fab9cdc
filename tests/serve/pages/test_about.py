"""The page "About": what leaves the machine, a card that loads nothing; and the way to any page."""

from __future__ import annotations

from tests.serve.pages.conftest import PHONE, Visit

PAGES = [
    "Search", "Match", "Zero-shot", "Classify", "Explain", "Teach", "Collection", "About",
]  # fmt: skip


def test_the_card_is_text_and_nothing_leaves(visit: Visit) -> None:
    visit.open("About")
    visit.sees("What leaves this machine: nothing.")
    visit.sees("<b>colours</b> alone")
    visit.sees("Classifiers: made")
    visit.check()


def test_the_card_is_opened_and_closed_without_a_mouse(visit: Visit) -> None:
    panel = visit.open_by_keys("About")
    card = panel.get_by_text("<b>colours</b> alone")
    card.wait_for()
    visit.press(panel.get_by_role("button", name="Model card"), "Enter")
    card.wait_for(state="hidden")
    visit.page.keyboard.press("Space")
    card.wait_for()


def test_every_page_is_in_reach_of_a_thumb_and_of_the_keys_of_a_phone(visit: Visit) -> None:
    visit.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    more = visit.page.get_by_role("button", name="More tabs")
    more.wait_for()
    for name in PAGES:
        tab = visit.page.get_by_role("tab", name=name, exact=True)
        if not tab.count():
            visit.press(more, "Enter")
            visit.page.wait_for_selector(".overflow-menu > [aria-expanded=true]")
            visit.press(visit.page.locator(".overflow-menu").get_by_text(name), "Enter")
        else:
            visit.press(tab, "Enter")
        visit.page.get_by_role("tab", name=name, exact=True, selected=True).wait_for()
    visit.press(more, "Enter")
    menu = visit.page.locator(".overflow-dropdown")
    menu.wait_for()
    visit.check()
    visit.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    visit.press(more, "Escape")
    menu.wait_for(state="hidden")
