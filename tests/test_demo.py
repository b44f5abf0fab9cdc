"""The demo's data and its bookkeeping, on the encoder that only knows colours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from miniclip import demo
from miniclip.demo import LABELS, PHOTOS, QUESTIONS, copy_photos, run_demo
from miniclip.errors import MissingExtraError
from miniclip.testing import COLOURS, FakeEncoder, picture


def test_ten_questions_about_ten_different_photos_among_twenty() -> None:
    assert len(QUESTIONS) == len({question.photo for question in QUESTIONS}) == 10
    assert len(set(PHOTOS)) == 20
    assert len(set(LABELS)) == 10


def test_the_photos_come_with_the_packages(tmp_path: Path) -> None:
    pytest.importorskip("skimage")

    paths = copy_photos(tmp_path / "photos")

    assert [path.name for path in paths] == list(PHOTOS)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_without_scikit_image_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        demo,
        "find_spec",
        lambda name: None if name == "skimage" else importlib.util.find_spec(name),
    )

    with pytest.raises(MissingExtraError, match=r"pip install 'miniclip\[demo\]'"):
        copy_photos(tmp_path)


def test_right_and_wrong_answers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten photos, each all of one colour, and sentences of which two ask for another photo's."""
    colours = list(COLOURS)[:10]
    questions = []
    for colour in colours:
        picture(colour).save(tmp_path / f"{colour}.png")
        questions.append(demo.Question(f"{colour}.png", f"the {colour} thing", colour))
    questions[0] = demo.Question(f"{colours[0]}.png", f"the {colours[1]} one", colours[0])
    monkeypatch.setattr(demo, "QUESTIONS", tuple(questions))
    monkeypatch.setattr(demo, "LABELS", tuple(colours))

    result = run_demo(FakeEncoder(), sorted(tmp_path.iterdir()))

    assert result.sentences_right == 9
    assert [found.right for found in result.found] == [False] + [True] * 9
    assert result.found[0].hits[0].path.name == f"{colours[1]}.png"
    assert result.photos_right == 9
    assert result.labels_right == 10
    assert np.isclose(result.found[1].hits[0].score, 1, atol=0.01)
