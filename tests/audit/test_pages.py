"""The pages and cards of an audit hold every figure, and nothing from data as anything but text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from miniclip.audit.answers import Asked
from miniclip.audit.association import NamedSet, associate
from miniclip.audit.cards import SECTION, data_card, with_subgroups
from miniclip.audit.groups import GroupsAudit, audit_groups
from miniclip.audit.provenance import audit_data
from miniclip.report.audit import write_bias_page, write_data_page, write_groups_page
from miniclip.testing import FakeEncoder
from tests.audit.answers import made_up
from tests.audit.planted import OWNER, photo

SCRIPT = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """What a browser would make of a page: the names of its elements, and the texts."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.unnamed = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.unnamed += tag == "img" and not dict(attrs).get("alt")

    def handle_data(self, data: str) -> None:
        self.text += data


def audit() -> GroupsAudit:
    answers, subgroup = made_up(200, (0.95, 0.6))
    cells = [SCRIPT if one else "$plain$" for one in subgroup]
    return audit_groups(Asked(answers, "made up", 0, 200, (), ()), {"who": cells}, model="m")


def test_the_page_of_subgroups(tmp_path: Path) -> None:
    page, result = tmp_path / "groups.html", audit()

    write_groups_page(page, result, files={}, command="miniclip audit groups ...")

    shown = Tags(page)
    assert "script" not in shown.names
    assert shown.text.count(SCRIPT) > 3
    assert shown.unnamed == 0
    assert "http" not in page.read_text().replace("http-equiv", "")
    for gap in result.columns[0].gaps:
        assert gap.name in shown.text
        assert f"{100 * gap.difference.value:.1f} %" in shown.text


def test_the_page_of_a_data_set_and_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo(folder / "a.jpg", Image.new("RGB", (20, 10), "red"))
    result = audit_data(sorted(folder.iterdir()), root=folder)

    write_data_page(tmp_path / "data.html", result, command=f"miniclip {SCRIPT}")
    card = data_card(result, command="miniclip audit data photos")

    shown = Tags(tmp_path / "data.html")
    assert "script" not in shown.names
    for text in (shown.text, card):
        assert "where it was taken" in text
        assert "CC BY 4.0" in text
        assert "Contax T2" in text
        assert OWNER not in text


def test_the_page_of_an_association(tmp_path: Path) -> None:
    rows = FakeEncoder().encode_texts(["red", "blue", "red sun"])
    sets = [NamedSet(name, ("one", "two", SCRIPT), np.roll(rows, n, axis=0))
            for n, name in enumerate((SCRIPT, "y", "a", "b"))]  # fmt: skip
    result = associate(*sets)

    write_bias_page(tmp_path / "bias.html", result, sets=sets, bundle="fake", command="miniclip")

    shown = Tags(tmp_path / "bias.html")
    assert "script" not in shown.names
    assert f"{result.effect:+.2f}" in shown.text


def test_a_model_card_gains_the_figures_once() -> None:
    before, result = "# Classifier of photos\n\n## How good it is\n\nvery\n", audit()

    once = with_subgroups(before, result)

    assert once.startswith(before)
    assert once.count(SECTION) == 1
    assert with_subgroups(once, result) == once
    assert "<script>" not in once.replace("\\<script", "")
    worst = result.columns[0].worst
    assert worst is not None
    assert f"{worst.accuracy.value:.1%}" in once
