"""Templates and labels as people write them, and how mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniclip.errors import ConfigError
from miniclip.prompts import (
    DEFAULT_TEMPLATES,
    check_labels,
    check_templates,
    fill,
    parse_labels,
    read_templates,
)


def test_the_default_templates_obey_their_own_rules() -> None:
    assert check_templates(DEFAULT_TEMPLATES) == DEFAULT_TEMPLATES
    assert len(set(DEFAULT_TEMPLATES)) == len(DEFAULT_TEMPLATES)


def test_filling_leaves_braces_and_backslashes_of_a_label_alone() -> None:
    assert fill(["a {}.", "{}"], r"set {x} \1") == (r"a set {x} \1.", r"set {x} \1")


def test_templates_from_a_file_with_comments_blank_lines_and_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_bytes("\ufeff# mine\r\n\r\na photo of a {}.\r\n  an X-ray of {}  \r\n".encode())
    assert read_templates(file) == ("a photo of a {}.", "an X-ray of {}")


@pytest.mark.parametrize(("line", "slots"), [("a photo", 0), ("{} and {}", 2)])
def test_a_template_without_exactly_one_slot_is_named(
    tmp_path: Path, line: str, slots: int
) -> None:
    file = tmp_path / "t.txt"
    file.write_text(f"a {{}}\n# comment\n{line}\n")
    with pytest.raises(ConfigError, match=rf"t\.txt, line 3: .* has {slots} times"):
        read_templates(file)


def test_templates_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: No such file"):
        read_templates(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no templates"):
        read_templates(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"un caf\xe9 {}\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_templates(tmp_path / "latin.txt")
    with pytest.raises(ConfigError, match="no templates given"):
        check_templates([])


def test_labels_from_the_command_line_and_from_a_file(tmp_path: Path) -> None:
    assert parse_labels("cat, dog ,polar bear") == ("cat", "dog", "polar bear")
    file = tmp_path / "labels.txt"
    file.write_text("# animals\ncat\n\nbear, polar\n")
    assert parse_labels(str(file)) == ("cat", "bear, polar")


def test_a_label_in_quotes_may_hold_commas() -> None:
    """Cut at each comma, '"cat' and 'brown"' would be two labels that nobody asked for."""
    assert parse_labels('"cat, brown", dog') == ("cat, brown", "dog")
    assert parse_labels('dog,"a ""big"" cat, brown"') == ("dog", 'a "big" cat, brown')
    assert parse_labels("the cat's eye,5\" disk") == ("the cat's eye", '5" disk')
    for open_ended in ('"cat, brown', '"cat" brown,dog'):
        with pytest.raises(ConfigError, match=r"cannot be read .*write a label that holds a comma"):
            parse_labels(open_ended)


def test_a_very_long_label_list_is_not_taken_for_a_path() -> None:
    labels = [f"label {number}" for number in range(2000)]
    assert parse_labels(",".join(labels)) == tuple(labels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cat,,dog", "label 2 of the label list is empty"),
        ("cat,dog,cat", r"'cat' is given twice .* number 1 and 3"),
        ("", "holds no labels"),
        (" , ", "holds no labels"),
        ("missing.txt", "no labels file at 'missing.txt'"),
    ],
)
def test_useless_labels_are_refused_with_a_cure(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_labels(value)


def test_labels_of_a_program_are_checked_too() -> None:
    assert check_labels(["a", "b"]) == ("a", "b")
    with pytest.raises(ConfigError, match="given twice"):
        check_labels(["a", "a"])
