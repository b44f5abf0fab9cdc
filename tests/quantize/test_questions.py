"""Right and wrong answers, against the plainest way to count them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniclip.datasets.captions import CaptionedImage, CaptionSet
from miniclip.datasets.folders import LabelledImages
from miniclip.errors import DatasetError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import preprocess
from miniclip.quantize.questions import (
    ProbeQuestions,
    Questions,
    RetrievalQuestions,
    ZeroShotQuestions,
)
from miniclip.testing import FakeEncoder, picture

COLOURS = ("red", "green", "blue", "yellow")
ENCODER = FakeEncoder()


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    """Two pictures of each colour; a ninth file is none."""
    made = []
    for number, colour in enumerate((*COLOURS, *COLOURS)):
        path = tmp_path / f"{number}.png"
        picture(colour, (20 + number, 30)).save(path)
        made.append(ImageSource.of(path))
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    return [*made, ImageSource.of(broken)]


def labelled(sources: list[ImageSource], classes: tuple[str, ...] = COLOURS) -> LabelledImages:
    return LabelledImages("colours", tuple(sources), np.arange(9) % 4, classes)


def test_zeroshot_names_the_right_colours(sources: list[ImageSource]) -> None:
    questions: Questions = ZeroShotQuestions(labelled(sources), ("a {} thing", "{}"))
    answers = questions.ask(ENCODER)
    assert answers.right.tolist() == [1] * 8
    assert answers.image.tolist() == list(range(8))
    assert questions.sentences[:3] == ["a red thing", "red", "a green thing"]
    wrong = ZeroShotQuestions(labelled(sources, ("red", "green", "yellow", "blue")), ("{}",))
    assert wrong.ask(ENCODER).right.tolist() == [1, 1, 0, 0] * 2


def test_retrieval_counts_each_caption_and_each_image(sources: list[ImageSource]) -> None:
    texts = [["red", "a red thing"], ["green"], ["red"], ["yellow", "blue"], ["pink"]]
    images = [
        CaptionedImage(source.name, source, tuple(captions))
        for source, captions in zip([*sources[:4], sources[8]], texts, strict=True)
    ]
    answers = RetrievalQuestions(CaptionSet("some", tuple(images))).ask(ENCODER)

    vectors = [
        ENCODER.encode_pixels(preprocess(decode(image.source), ENCODER.image_spec)[None])
        .embeddings[0]
        for image in images[:4]
    ]  # fmt: skip
    right = []
    for owner, captions in enumerate(texts[:4]):
        for caption in captions:
            cosines = [float(vector @ ENCODER.encode_texts([caption])[0]) for vector in vectors]
            others = [cosine for place, cosine in enumerate(cosines) if place != owner]
            right.append(cosines[owner] > max(others) + 1e-6)
    for owner, vector in enumerate(vectors):
        own = max(float(vector @ row) for row in ENCODER.encode_texts(texts[owner]))
        others = [
            float(vector @ row)
            for place in range(4)
            if place != owner
            for row in ENCODER.encode_texts(texts[place])
        ]
        right.append(own > max(others) + 1e-6)
    assert answers.right.tolist() == [float(one) for one in right]
    assert answers.image.tolist() == [0, 0, 1, 2, 3, 3, 0, 1, 2, 3]
    assert 0 < answers.right.mean() < 1


def test_a_probe_learns_colours_from_the_other_images(tmp_path: Path) -> None:
    made = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        picture(COLOURS[number % 2], (20 + number, 30)).save(path)
        made.append(ImageSource.of(path))
    labels = np.arange(20) % 2
    labels[4] = 1  # called green, and looks red
    questions = ProbeQuestions(LabelledImages("two", tuple(made), labels, COLOURS[:2]))
    right = questions.ask(ENCODER).right
    assert right.tolist() == [float(place != 4) for place in range(20)]
    assert questions.sentences == ()


def test_a_data_set_without_a_readable_image_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_text("no picture")
    nothing = LabelledImages("none", (ImageSource.of(path),), np.array([0]), ("red",))
    with pytest.raises(DatasetError, match=r"none of the 1 images can be decoded .*broken\.png"):
        ZeroShotQuestions(nothing).ask(ENCODER)
