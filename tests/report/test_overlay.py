"""What a person sees of a map: red and blue at their places, and the verdict in writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.errors import StoreError
from miniclip.explain.explanation import explain
from miniclip.explain.planted import planted
from miniclip.report.overlay import blended, map_sheet, write_sheet

WHITE = Image.new("RGB", (64, 64), "white")


def corners() -> np.ndarray:
    drops = np.zeros((4, 4), dtype=np.float32)
    drops[0, 0], drops[3, 3] = 1, -1
    return drops


def test_red_speaks_for_the_answer_and_blue_against_it() -> None:
    pixels = np.asarray(blended(WHITE, corners(), side=64), dtype=np.int64)
    assert pixels[4, 4, 0] > pixels[4, 4, 2] + 50
    assert pixels[-4, -4, 2] > pixels[-4, -4, 0] + 50
    assert (pixels[32, 4] > 200).all()


def test_patches_have_edges_and_the_smooth_view_has_none() -> None:
    flat, soft = (
        np.asarray(blended(WHITE, corners(), view=view, side=64), dtype=np.int64)
        for view in ("patches", "smooth")
    )
    assert len(np.unique(flat[:16, :16].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(soft[:16, :16].reshape(-1, 3), axis=0)) > 50


def test_what_the_model_does_not_see_has_no_colour() -> None:
    drops = np.ones((2, 2), dtype=np.float32)
    pixels = np.asarray(blended(WHITE, drops, box=(0.25, 0, 0.75, 1), side=64), dtype=np.int64)
    assert (np.ptp(pixels[:, :16], axis=2) == 0).all()
    assert (pixels[:, 16:48, 0] > pixels[:, 16:48, 2] + 50).all()


def test_a_sheet_says_what_its_map_is_worth(tmp_path: Path) -> None:
    (one,) = planted("quadrant", 1)
    true = explain(one.encoder, one.image, one.score)
    blind = explain(one.encoder, one.image, lambda seen: np.ones(len(seen.features)))
    sheets = [np.asarray(map_sheet(one.image, found), dtype=np.int64) for found in (true, blind)]
    footers = [sheet[-30:] for sheet in sheets]
    alarm = [(footer[..., 0] > footer[..., 2] + 80).any() for footer in footers]
    assert alarm == [False, True]  # red writing

    write_sheet(tmp_path / "map.png", map_sheet(one.image, true, view="patches"))
    with Image.open(tmp_path / "map.png") as written:
        assert written.format == "PNG"
    with pytest.raises(StoreError, match="nowhere"):
        write_sheet(tmp_path / "nowhere" / "map.png", WHITE)
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
