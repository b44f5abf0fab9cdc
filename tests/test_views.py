"""Views cut what they say they cut, and every name gives a fixed set of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from miniclip.errors import ConfigError
from miniclip.views import PLAIN, View, named_views


def ramp(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y: a pixel tells where it was."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, x * 0], axis=-1).astype(np.uint8))


def test_the_plain_view_is_the_picture_itself() -> None:
    image = ramp(40, 20)
    assert PLAIN.apply(image) is image


def test_a_box_is_cut_out_and_then_mirrored() -> None:
    image = ramp(40, 20)
    part = np.asarray(View("part", (0.25, 0.5, 0.75, 1.0), mirrored=True).apply(image))
    np.testing.assert_array_equal(part, np.asarray(image)[10:20, 10:30][:, ::-1])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 2)])
def test_a_tiny_picture_still_has_every_view(size: tuple[int, int]) -> None:
    for view in named_views("flip,crops,tiles"):
        assert min(view.apply(ramp(*size)).size) >= 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain", ["plain"]),
        ("", ["plain"]),
        ("plain, Flip", ["plain", "flip"]),
        ("flip,flip,plain", ["plain", "flip"]),
        ("crops", ["plain", "crop1", "crop2", "crop3", "crop4", "crop5"]),
        ("tiles,flip", ["plain", "tile1", "tile2", "tile3", "tile4", "flip"]),
    ],
)
def test_the_plain_view_comes_first_and_none_twice(text: str, names: list[str]) -> None:
    assert [view.name for view in named_views(text)] == names


@pytest.mark.parametrize("name", ["crops", "tiles"])
def test_crops_and_tiles_leave_no_pixel_out(name: str) -> None:
    image = ramp(50, 30)
    seen = {
        tuple(pixel)
        for view in named_views(name)[1:]
        for pixel in np.asarray(view.apply(image)).reshape(-1, 3).tolist()
    }
    assert len(seen) == 50 * 30


def test_a_view_is_decoded_as_sharply_as_the_plain_one() -> None:
    assert PLAIN.zoom == 1
    assert named_views("tiles")[1].zoom == pytest.approx(1 / 0.6)


def test_what_is_no_view_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'flop'; choose from plain, flip, crops, tiles"):
        named_views("plain,flop")
    with pytest.raises(ConfigError, match="left < right"):
        View("backwards", (0.5, 0.0, 0.5, 1.0))
