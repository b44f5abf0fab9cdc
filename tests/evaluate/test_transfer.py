"""From one data set to another: pairs, shared classes, other names, and what is left out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

from miniclip.datasets.labelled_splits import LabelledSplits, read_labelled_splits
from miniclip.errors import DatasetError
from miniclip.evaluate.transfer import TransferResult, TransferSettings, measure_transfer
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.cross_fit import training_rows, view_scores
from miniclip.probe.learn import HeadChoice, head_fitter
from miniclip.probe.prepare import prepare
from miniclip.testing import FakeEncoder
from miniclip.views import PLAIN
from tests.probe.photos import make_photos

SETTINGS = TransferSettings(HeadChoice("logistic"), folds=3)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        yield cache


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "one", 20, spread=90)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "other", {"leaf": 15, "sea": 15, "apple": 10}, seed=1, spread=90)


def measured(
    cache: VectorCache, train: list[Path], test: list[Path], **names: str
) -> TransferResult:
    def read(places: list[Path]) -> dict[str, LabelledSplits]:
        return {place.name: read_labelled_splits(place) for place in places}

    return measure_transfer(
        FakeEncoder(),
        read(train),
        read(test),
        cache,
        SETTINGS,
        names=names,
    )


def test_a_pair_is_learnt_on_all_of_the_one_and_tested_on_all_of_the_other(
    cache: VectorCache, one: Path, other: Path
) -> None:
    (cell,) = measured(cache, [one], [other]).cells
    encoder = FakeEncoder()
    ready = [
        prepare(encoder, read_labelled_splits(place), cache, views=(PLAIN,))
        for place in (one, other)
    ]
    train, test = ready
    fit = head_fitter(HeadChoice("logistic"), train.classes, encoder)
    head = fit(*training_rows(train.table, train.labels, train.group, np.arange(len(train))))
    answers = [train.classes[row] for row in view_scores(head, test.table).argmax(axis=1)]
    truth = [test.classes[label] for label in test.labels]
    assert cell.accuracy is not None
    assert cell.accuracy.value == accuracy_score(truth, answers)
    assert (cell.train, cell.test, cell.images, cell.repeats) == ("one", "other", 40, 0)


def test_a_data_set_against_itself_is_cross_validated(cache: VectorCache, one: Path) -> None:
    (cell,) = measured(cache, [one], [one]).cells
    assert cell.accuracy is not None
    assert cell.images == 60
    assert cell.accuracy.value < 1  # a head that had seen them would know all


def test_only_shared_classes_count_and_other_names_can_be_mapped(
    cache: VectorCache, one: Path, other: Path
) -> None:
    (other / "apple").rename(other / "Malus")
    assert measured(cache, [one], [other]).cells[0].classes == ("leaf", "sea")
    mapped = measured(cache, [one], [other], malus="apple").cells[0]
    assert mapped.classes == ("apple", "leaf", "sea")
    assert mapped.images == 40


def test_files_of_both_sets_are_not_tested_on(cache: VectorCache, one: Path, other: Path) -> None:
    for number in range(3):
        shutil.copy(one / "sea" / f"sea00{number}.png", other / "sea" / f"copy{number}.png")
    with Image.open(one / "sea" / "sea004.png") as photo:
        photo.resize((96, 96)).save(other / "sea" / "near.jpg", quality=90)
    result = measured(cache, [one], [other])
    (cell,) = result.cells
    assert (cell.images, cell.repeats) == (40, 4)
    assert "40 images, 4 others left out: they repeat training images" in str(result)


def test_classes_of_nearly_one_name_stay_two(cache: VectorCache, one: Path, other: Path) -> None:
    """The exact name goes first, and the other spelling is no class of the first set."""
    (one / "apple").rename(one / "LEAF")
    (other / "apple").rename(other / "Leaf")
    (other / "leaf").rename(other / "leaf2")
    (other / "Leaf").rename(other / "leaf")
    (cell,) = measured(cache, [one], [other]).cells
    assert cell.classes == ("leaf", "sea")
    assert cell.images == 25
    (back,) = measured(cache, [other], [one], leaf2="LEAF").cells
    assert (back.classes, back.images) == (("leaf", "LEAF", "sea"), 60)
    (other / "leaf").rename(other / "Leaf")
    with pytest.raises(DatasetError, match="'Leaf' could be 'LEAF' or 'leaf'"):
        measured(cache, [one], [other])


def test_sets_without_two_classes_in_common_are_told_apart(
    cache: VectorCache, one: Path, other: Path, tmp_path: Path
) -> None:
    stranger = make_photos(tmp_path / "stranger", {"leaf": 12, "apple": 12}, seed=2)
    (stranger / "apple").rename(stranger / "rock")
    result = measured(cache, [one], [other, stranger])
    assert [cell.accuracy is None for cell in result.cells] == [False, True]
    assert "one -> stranger  fewer than two classes in common" in str(result)
    with pytest.raises(DatasetError, match=r"no two data sets share two classes: .*--map"):
        measured(cache, [one], [stranger])
