"""The second look: the middle of the picture, enlarged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from miniclip.train.towers.centre import enlarged_centre
from tests.train.tiny_model import tiny_model

pytestmark = pytest.mark.train


def test_it_is_the_middle_as_pillow_enlarges_it() -> None:
    ramp = np.add.outer(np.arange(32.0), 2 * np.arange(32.0)).astype(np.float32)
    got = enlarged_centre(torch.from_numpy(ramp).expand(1, 3, 32, 32), 0.5)[0, 0].numpy()
    middle = Image.fromarray(ramp[8:24, 8:24]).resize((32, 32), Image.Resampling.BICUBIC)
    mirrored = np.asarray(middle)[:, ::-1]
    assert got.shape == (32, 32)
    inner = slice(4, -4)  # at the border the two libraries extend the picture differently
    np.testing.assert_allclose(got[inner, inner], mirrored[inner, inner], atol=0.3)


def test_features_are_the_mean_of_both_looks(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, image_centre=0.75).eval()
    side = model.image_tower.image_spec.side
    pixels = torch.rand(2, 3, side, side)
    with torch.no_grad():
        closer = model.image_tower(enlarged_centre(pixels, 0.75))
        expected = (model.image_tower(pixels) + closer) / 2
        torch.testing.assert_close(model.pixel_features(pixels), expected)
        assert not torch.allclose(expected, closer)
