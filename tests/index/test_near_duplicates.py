"""Copies in an index of real files: found whatever their size, and told from pictures alike."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from miniclip.arrays import unit_rows
from miniclip.collection import Index
from miniclip.errors import ConfigError
from miniclip.images import ImageSource
from miniclip.index.near_duplicates import COSINE, Group, find_groups, fold, grey_rows
from miniclip.index.reading import sources_of
from miniclip.index.store import Below
from miniclip.testing import FakeEncoder


def scene(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """Return a picture of smooth random shapes, as different as photos are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "old").mkdir(parents=True)
    one = scene(1)
    one.save(folder / "one.png")
    one.resize((67, 50)).save(folder / "old" / "one small.jpg", quality=40)
    ImageEnhance.Brightness(one).enhance(0.8).save(folder / "one dark.jpg")
    (folder / "one again.png").write_bytes((folder / "one.png").read_bytes())
    one.resize((80, 150)).save(folder / "one squeezed.png")
    one.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "one mirrored.png")
    scene(2).save(folder / "two.png")
    scene(3).save(folder / "three.png")
    for name in ("white.png", "ivory.png"):
        Image.new("RGB", (60, 40), name.split(".")[0]).save(folder / name)
    return folder


@pytest.fixture
def index(photos: Path) -> Iterator[Index]:
    with Index.open(photos, FakeEncoder()) as index:
        index.sync()
        yield index


def groups_of(index: Index, **options: object) -> list[Group]:
    def readable(images: object) -> list[ImageSource]:
        return sources_of(index.location, images)  # type: ignore[arg-type]

    return find_groups(index.store, readable, **options)  # type: ignore[arg-type]


def names(group: Group) -> list[str]:
    return [Path(image.path).name for image in (group.keep, *group.rest)]


def test_copies_of_any_size_are_one_group_and_the_largest_is_kept(index: Index) -> None:
    (group,) = groups_of(index)

    assert names(group)[0] in ("one.png", "one again.png")
    assert sorted(names(group)) == ["one again.png", "one dark.jpg", "one small.jpg", "one.png"]
    assert names(group)[-1] == "one small.jpg"
    assert 0.97 <= group.alike <= 1
    assert group.wasted_bytes == sum(image.size for image in group.rest) > 0


def test_of_equal_files_the_older_is_kept(index: Index, photos: Path) -> None:
    os.utime(photos / "one again.png", (1, 1))
    index.sync()

    assert names(groups_of(index)[0])[0] == "one again.png"


def test_a_filter_limits_what_is_compared(index: Index) -> None:
    assert groups_of(index, where=Below("old")) == []


def test_images_that_cannot_be_read_any_more_are_like_no_other(index: Index, photos: Path) -> None:
    for path in photos.rglob("*.*"):
        if path.suffix in (".png", ".jpg"):
            path.unlink()

    (group,) = groups_of(index)

    assert sorted(names(group)) == ["one again.png", "one.png"], "equal content is enough"


def test_vectors_group_what_is_merely_similar(index: Index) -> None:
    groups = [set(names(group)) for group in groups_of(index, similar=0.99)]

    assert {"one mirrored.png", "one.png"} <= next(group for group in groups if "one.png" in group)
    with pytest.raises(ConfigError, match=r"the cosine is 1\.5"):
        groups_of(index, similar=1.5)


def test_an_empty_index_has_no_groups(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with Index.open(tmp_path / "none", FakeEncoder()) as index:
        index.sync()

        assert groups_of(index) == []


def test_dot_products_of_grey_rows_are_correlations(photos: Path) -> None:
    paths = sorted(photos.glob("*.png"))
    rows = grey_rows([ImageSource.of(path) for path in paths])

    def grey(path: Path) -> list[float]:
        small = Image.open(path).convert("L").resize((32, 32), Image.Resampling.BOX)
        return [float(value) for value in np.asarray(small).ravel()]

    for (i, one), (j, other) in itertools.combinations(enumerate(paths), 2):
        flat = {"white.png", "ivory.png"} & {one.name, other.name}
        expected = 0.0 if flat else float(np.corrcoef(grey(one), grey(other))[0, 1])
        assert float(rows[i] @ rows[j]) == pytest.approx(expected, abs=1e-4)
    assert grey_rows([]).shape == (0, 1024)


def test_a_result_folds_by_vector_or_by_picture() -> None:
    near = np.array([1, np.sqrt(1 / COSINE**2 - 1) * 0.9])
    rows = unit_rows(np.array([[1, 0], near, [0, 1], [1, 0.01]]))
    greys = unit_rows(np.array([[1, 0, 0], [0, 1, 0], [1, 0.01, 0], [0, 0, 1]]))

    assert fold(rows) == [[0, 1, 3], [2]]
    assert fold(rows, greys) == [[0, 1, 2, 3]]
    assert fold(np.empty((0, 2), np.float32)) == []
