"""Any name as a line of a terminal, and as the name of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniclip.safe_text import file_name, one_line


def test_control_signs_are_shown_and_not_obeyed() -> None:
    assert one_line("no\ntumour\x1b[31m \u2028") == r"no\ntumour\x1b[31m \u2028"
    assert one_line("Ölße 紙 \udcff") == "Ölße 紙 \udcff"


@given(st.text())
def test_a_line_is_one(text: str) -> None:
    assert len(one_line(f"a{text}b").splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("glass", "glass"),
        ("a/b\\c", "a_b_c"),
        (".", "_"),
        ("..", "_"),
        ("", "_"),
        ("x\ny", "x_y"),
        ("no tumour. ", "no tumour"),
        ("Ölße 紙", "Ölße 紙"),
    ],
)
def test_a_name_is_no_path(text: str, name: str) -> None:
    assert file_name(text) == name


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert file_name("A/b", {"a_b", "a_b-2"}) == "A_b-3"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400))
def test_any_text_is_the_name_of_one_folder_inside(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    folder = root / file_name(text)
    folder.mkdir(parents=True, exist_ok=True)
    assert folder.resolve().parent == root.resolve()


def test_a_long_name_leaves_room_for_a_number(tmp_path: Path) -> None:
    for letter in ("x", "紙"):
        name = file_name(letter * 300)
        assert len(file_name(letter * 300, {name}).encode()) <= 255
        (tmp_path / name).mkdir()
