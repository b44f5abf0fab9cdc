"""Occlusion: the patch that carries the answer is found, and counted as a loop would count it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.explain import occlusion_map
from miniclip.preprocess import preprocess
from miniclip.testing import COLOURS, FakeEncoder

ENCODER = FakeEncoder()
RED = list(COLOURS).index("red")


def redness(vectors: ImageVectors) -> FloatArray:
    return vectors.embeddings[:, RED]


def red_corner(side: int = 64) -> Image.Image:
    picture = Image.new("RGB", (side, side), COLOURS["blue"])
    picture.paste(COLOURS["red"], (0, 0, side // 4, side // 4))
    return picture


def test_the_patch_that_holds_the_colour_carries_the_answer() -> None:
    drops = occlusion_map(ENCODER, red_corner(), redness, cells=4)
    assert drops.shape == (4, 4)
    assert drops.dtype == np.float32
    assert drops.argmax() == 0  # the first cell of the first row
    assert drops[0, 0] > 10 * np.abs(drops[2:, 2:]).max()


def test_each_cell_is_the_score_that_covering_it_costs() -> None:
    picture = red_corner()
    drops = occlusion_map(ENCODER, picture, redness, cells=4)
    pixels = preprocess(picture, ENCODER.image_spec)
    covered = pixels.copy()
    covered[:, 3:9, 0:5] = pixels.mean(axis=(1, 2), keepdims=True)  # row 1, column 0, side 16
    whole = redness(ENCODER.encode_pixels(pixels[None]))[0]
    without = redness(ENCODER.encode_pixels(covered[None]))[0]
    np.testing.assert_allclose(drops[1, 0], whole - without, atol=1e-6)
