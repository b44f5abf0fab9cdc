"""Pictures of any shape as patches: none is lost, and the canvas says where each one was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from miniclip.patches import patch_grid
from miniclip.preprocess import ImageSpec, preprocess

SPEC = ImageSpec(
    side=32,
    resize="patches",
    resize_side=32,
    interpolation="bilinear",
    mean=(0.5, 0.4, 0.3),
    std=(0.5, 0.5, 0.25),
    patch=8,
)
length = st.integers(1, 5000)


@given(width=length, height=length, patch=st.integers(1, 32), most=st.integers(1, 1024))
def test_a_grid_holds_the_whole_picture_in_as_many_patches_as_it_may(
    width: int, height: int, patch: int, most: int
) -> None:
    rows, columns = patch_grid(width, height, patch=patch, most=most)
    assert 1 <= rows * columns <= most
    if columns > 5 and rows > 5:  # else one more patch changes the shape too much
        assert (rows / columns) / (height / width) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((32, 32), (4, 4)), ((640, 427), (3, 5)), ((640, 40), (1, 16)), ((1, 9000), (16, 1))],
)
def test_known_pictures_have_the_grids_of_the_original(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert patch_grid(*size, patch=8, most=16) == grid


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (200, 11), (3, 2)])
def test_the_canvas_holds_every_patch_in_order(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    canvas = preprocess(Image.fromarray(noise), SPEC)
    assert canvas.shape == SPEC.shape == (3, 40, 32)

    rows, columns = canvas[0, 32, :2].astype(int)
    assert (rows, columns) == patch_grid(*size, patch=8, most=16)
    whole = Image.fromarray(noise).resize((columns * 8, rows * 8), Image.Resampling.BILINEAR)
    wanted = (np.asarray(whole) / 255 - SPEC.mean) / SPEC.std
    for place in range(16):
        top, left = place // 4 * 8, place % 4 * 8
        found = canvas[:, top : top + 8, left : left + 8].transpose(1, 2, 0)
        row, column = divmod(place, columns)
        if place < rows * columns:
            patch = wanted[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            np.testing.assert_allclose(found, patch, atol=1e-5)
        else:
            assert not found.any()
