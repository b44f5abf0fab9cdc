"""Occlusion: the patch that carries the answer is found, and counted as a loop would count it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.explain.occlusion import occlusion_map
from miniclip.preprocess import ImageSpec, preprocess
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


class Patchwork(FakeEncoder):
    """Sees pictures in patches, wherever these lie, and says how red their pixels are."""

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        reds = pixels[:, 0, : self.image_spec.side].mean(axis=(1, 2))
        return ImageVectors(np.eye(self.embedding_dim, dtype=np.float32)[RED] * reds[:, None], reds)


def test_a_model_of_patches_is_asked_about_places_of_the_picture() -> None:
    half = (0.5, 0.5, 0.5)
    spec = ImageSpec(32, "patches", 32, "bilinear", mean=half, std=half, patch=8)
    encoder = Patchwork(image_spec=spec)
    picture = Image.new("RGB", (96, 24), COLOURS["blue"])  # its patches fill the canvas otherwise
    picture.paste(COLOURS["red"], (72, 12, 96, 24))
    drops = occlusion_map(encoder, picture, redness, cells=4)
    assert drops.argmax() in (11, 15)  # the last column, its lower rows
    colours = np.asarray(picture, dtype=np.float32)
    covered = colours.copy()
    covered[16:24, 66:96] = colours.mean(axis=(0, 1))  # row 3, column 3, each 6 x 24 and a quarter
    pixels = [preprocess(picture, spec), preprocess(_rounded(covered), spec)]
    whole, without = redness(encoder.encode_pixels(np.stack(pixels)))
    np.testing.assert_allclose(drops[3, 3], whole - without, atol=1e-6)


def _rounded(colours: FloatArray) -> Image.Image:
    return Image.fromarray(colours.round().astype(np.uint8))
