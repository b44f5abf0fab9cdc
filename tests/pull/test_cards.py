"""Licences, as cards state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniclip.errors import BundleError
from miniclip.pull.cards import UNKNOWN, commercial_doubt, licence_of, read_card


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: apache-2.0", "Apache-2.0"),
        ("license: MIT\ntags: [clip]", "MIT"),
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("license: [mit, apache-2.0]", "MIT AND Apache-2.0"),
        ("license: other\nlicense_name: apple-amlr\nlicense_link: LICENSE", "apple-amlr"),
        (
            "license: other\nlicense_link: https://example.org/terms",
            "see https://example.org/terms",
        ),
        ("license: other", UNKNOWN),
        ("tags: [clip]", UNKNOWN),
        ("license: {a: b}", UNKNOWN),
        ("license: [unclosed", UNKNOWN),
        ("- a list", UNKNOWN),
    ],
)
def test_the_licence_is_read_from_the_front_of_the_card(front: str, licence: str) -> None:
    assert licence_of(f"---\n{front}\n---\n# A model\nlicense: gpl-3.0\n") == licence
    windows = f"\ufeff---\n{front}\n---\n# A model\n".replace("\n", "\r\n")
    assert licence_of(windows) == licence


def test_a_card_without_a_front_states_nothing() -> None:
    assert licence_of(None) == UNKNOWN
    assert licence_of("# A model\n\n---\nlicense: mit\n---\n") == UNKNOWN


@pytest.mark.parametrize("licence", ["Apache-2.0", "MIT", "cc-by-4.0", "MIT AND Apache-2.0"])
def test_open_licences_raise_no_doubt(licence: str) -> None:
    assert commercial_doubt(licence) is None


@pytest.mark.parametrize(
    ("licence", "doubt"),
    [
        ("cc-by-nc-4.0", "forbids"),
        ("CC-BY-NC-SA-4.0", "forbids"),
        ("apple-amlr", "forbids"),
        ("my-noncommercial-licence", "forbids"),
        ("MIT AND cc-by-nc-4.0", "forbids"),
        (UNKNOWN, "states no licence"),
        ("gemma", "not known here"),
        ("see https://example.org/terms", "not known here"),
        ("incense-2.0", "not known here"),
    ],
)
def test_other_licences_raise_a_doubt(licence: str, doubt: str) -> None:
    assert doubt in (commercial_doubt(licence) or "")


def test_a_card_is_text(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match=r"README\.md cannot be read"):
        read_card(tmp_path)
