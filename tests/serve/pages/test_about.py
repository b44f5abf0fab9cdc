"""The page "About": what leaves the machine, and a card that loads nothing."""

from __future__ import annotations

from tests.serve.pages.conftest import Visit


def test_the_card_is_text_and_nothing_leaves(visit: Visit) -> None:
    visit.open("About")
    visit.sees("What leaves this machine: nothing.")
    visit.sees("<b>colours</b> alone")
    visit.sees("Classifiers: made")
    visit.check()
