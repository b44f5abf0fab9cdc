"""The pages of map and duplicates: complete in one file, and safe whatever files are called."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip.images import ImageSource
from miniclip.index.collection_map import Cluster, CollectionMap
from miniclip.report import map as map_page
from miniclip.report.duplicates import Copy, write_duplicates_page
from miniclip.report.map import Pictured, write_map_page
from tests.report.test_pages import Page

NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&\u202e\n\udcff.png'
COLOURS = ("red", "lime", "blue", "white", "black")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in COLOURS]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.new("RGB", (50, 30), colour).save(path)
    return paths


def drawn(count: int) -> CollectionMap:
    xy = np.linspace(0, 1, 2 * count, dtype=np.float32).reshape(count, 2)
    cluster_of = np.array([0] * (count - 1) + [-1])
    return CollectionMap(
        tuple(range(10, 10 + count)), xy, cluster_of, (Cluster(NASTY, 0.5, 0.5, count - 1),), 99
    )


def write(path: Path, photos: Sequence[Path], names: Sequence[str]) -> Page:
    def sources(ids: Sequence[int]) -> list[ImageSource]:
        return [ImageSource.of(photos[number - 10]) for number in ids]

    pictured = [Pictured(name, f"file:///{number}", name) for number, name in enumerate(names)]
    write_map_page(
        path, drawn(len(photos)), pictured, sources, title=NASTY, command=f"miniclip map {NASTY}"
    )
    return Page(path)


def data_of(page: Page) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.source)
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def sheets_of(page: Page) -> list[Image.Image]:
    (line,) = re.findall(r"^const SHEETS = \[(.*)\];$", page.source, re.MULTILINE)
    uris = re.findall(r'"data:image/jpeg;base64,([^"]+)"', line)
    return [Image.open(BytesIO(base64.b64decode(uri))) for uri in uris]


def test_the_map_has_every_image_in_its_place_and_on_its_tile(
    tmp_path: Path, photos: list[Path]
) -> None:
    page = write(tmp_path / "map.html", photos, COLOURS)

    data, (sheet,) = data_of(page), sheets_of(page)
    assert data["name"] == data["caption"] == list(COLOURS)
    assert data["x"] == pytest.approx([0, 0.2222, 0.4444, 0.6667, 0.8889])
    assert data["cluster"] == [0, 0, 0, 0, -1]
    side = data["tile"]
    for number, expected in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        shown = sheet.getpixel((number * side + side // 2, side // 2))
        assert np.abs(np.subtract(shown, expected)).max() < 12  # type: ignore[arg-type]
    assert "5 of 99 images" in page.source


def test_many_images_fill_several_sheets(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_page, "_SHEET_SIDE", 2 * 96)

    page = write(tmp_path / "map.html", photos, COLOURS)

    assert [sheet.size for sheet in sheets_of(page)] == [(192, 192), (96, 96)]
    assert data_of(page)["columns"] == 2


def test_nothing_in_a_name_is_code_and_nothing_is_asked_from_elsewhere(
    tmp_path: Path, photos: list[Path]
) -> None:
    page = write(tmp_path / "map.html", photos, [NASTY] * 5)

    assert [tag.get("type") for tag in page.all("script")] == ["application/json", None]
    assert page.all("img") == []
    assert data_of(page)["name"] == [NASTY] * 5
    assert page.source.count("<script") == 2
    (policy,) = (tag["content"] for tag in page.all("meta") if "http-equiv" in tag)
    assert str(policy).startswith("default-src 'none'; img-src data:;")
    assert re.findall(r"https?:|url\(|@import|innerHTML|eval\(", page.source) == []


def test_an_image_that_is_gone_is_an_empty_tile(tmp_path: Path, photos: list[Path]) -> None:
    photos[0].unlink()

    (sheet,) = sheets_of(write(tmp_path / "map.html", photos, COLOURS))

    assert np.abs(np.subtract(sheet.getpixel((10, 10)), (128, 128, 128))).max() < 12  # type: ignore[arg-type]


def test_the_map_is_reached_by_keyboard_and_named_for_those_who_do_not_see_it(
    tmp_path: Path, photos: list[Path]
) -> None:
    page = write(tmp_path / "map.html", photos, COLOURS)

    (canvas,) = page.all("canvas")
    assert canvas["tabindex"] == "0"
    assert "Map of 5 images" in str(canvas["aria-label"])
    assert all("aria-label" in tag or "data-cluster" in tag for tag in page.all("button"))
    assert "prefers-color-scheme: dark" in page.source


def test_the_page_of_duplicates_shows_each_group_and_escapes_names(
    tmp_path: Path, photos: list[Path]
) -> None:
    nasty = ImageSource(NASTY, data=photos[1].read_bytes())
    groups = [[Copy(ImageSource.of(photos[0]), "50 x 30"), Copy(nasty, "<b>5 kB</b>")]]

    path = tmp_path / "duplicates.html"
    write_duplicates_page(path, groups, title="t <b>", summary="1 copy", command="x")

    page = Page(path)
    assert page.all("script") == page.all("b") == []
    assert len(page.all("img")) == 2
    assert [str(image["alt"])[:5] for image in page.all("img")] == ["keep:", "copy:"]
