"""Where on a picture a map lies: the part that `preprocess` lets the model see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.explain.explanation import explain
from miniclip.explain.subject import Subject, seen_box
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.testing import FakeEncoder

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("resize", "resize_side"), [("squash", 32), ("squash", 40), ("shortest", 32), ("shortest", 44)]
)
@pytest.mark.parametrize("size", [(64, 64), (160, 64), (64, 160)])
def test_the_model_sees_the_box_and_nothing_else(
    resize: str, resize_side: int, size: tuple[int, int]
) -> None:
    spec = ImageSpec(32, resize, resize_side, "bilinear", mean=HALF, std=HALF)  # type: ignore[arg-type]
    left, top, right, bottom = seen_box(size, spec)
    box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
    inside = (round(box[0]), round(box[1]), round(box[2]), round(box[3]))
    picture = Image.new("RGB", size, "white")
    picture.paste("black", inside)
    seen = preprocess(picture, spec)
    assert (seen[:, 2:-2, 2:-2] == -1).all()  # the box fills what the model sees

    picture = Image.new("RGB", size, "black")
    picture.paste("white", (inside[0] + 10, inside[1] + 10, inside[2] - 10, inside[3] - 10))
    assert (preprocess(picture, spec)[:, 0] == -1).all()  # and no more than that


def test_a_large_picture_for_a_model_of_patches_is_shrunk_first() -> None:
    spec = ImageSpec(32, "patches", 32, "bilinear", mean=HALF, std=HALF, patch=8)
    encoder = replace(FakeEncoder(), image_spec=spec)
    subject = Subject(encoder, Image.new("RGB", (1280, 640)), lambda seen: seen.features[:, 0])
    assert max(subject.shape) == 128


def test_masks_mix_the_picture_with_its_mean_colour() -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8] = 200
    encoder = FakeEncoder()
    subject = Subject(encoder, Image.fromarray(pixels), lambda seen: seen.features[:, 0])
    masks = [np.ones((1, 1)), np.zeros((1, 1)), np.full((2, 2), 0.5)]
    whole, hidden, half = subject.scores(masks)  # the red of the upper left quarter, 0..1
    assert whole == pytest.approx(200 / 255, abs=1e-5)
    assert hidden == pytest.approx(100 / 255, abs=1e-5)
    assert half == pytest.approx(150 / 255, abs=1e-5)
    assert subject.asked == 3


def test_who_checks_may_end_it_before_any_batch() -> None:
    shown: list[int] = []

    class Watched(FakeEncoder):
        def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
            shown.append(len(pixels))
            return super().encode_pixels(pixels)

    def check() -> None:
        if len(shown) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        explain(
            Watched(), Image.new("RGB", (16, 16)), lambda seen: seen.features[:, 0], check=check
        )
    assert len(shown) == 3
