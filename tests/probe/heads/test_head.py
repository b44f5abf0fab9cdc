"""What every head refuses, and what a saved one must bring."""

from __future__ import annotations

import json

import numpy as np
import pytest

from miniclip.errors import ConfigError, DatasetError, StoreError
from miniclip.probe.heads import HeadSettings, Rows, fit_head, load_head
from miniclip.probe.heads.head import FITTED_KINDS
from tests.probe.heads.blobs import blobs, named_prompts


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    rows, labels = blobs()
    with pytest.raises(ConfigError, match="no head is called 'forest'; choose one of kernel"):
        fit_head("forest", rows, labels, 3)
    with pytest.raises(StoreError, match="newer miniclip"):
        load_head("forest", {}, {})


def test_rows_and_labels_must_belong_together() -> None:
    rows, labels = blobs()
    with pytest.raises(ConfigError, match="90 rows of features, 90 of embeddings, 89 labels"):
        fit_head("logistic", rows, labels[1:], 3)
    with pytest.raises(ConfigError, match="with 2 classes they run from 0 to 1"):
        fit_head("logistic", rows, labels, 2)


def test_one_class_or_a_class_without_images_cannot_be_learned() -> None:
    rows, labels = blobs()
    with pytest.raises(DatasetError, match="at least two"):
        fit_head("kernel", rows, np.zeros_like(labels), 1)
    with pytest.raises(DatasetError, match=r"1 of 4 classes have no image.*number 3"):
        fit_head("kernel", rows, labels, 4)


def test_features_that_are_no_numbers_are_refused() -> None:
    rows, labels = blobs()
    broken = rows.features.copy()
    broken[4, 2] = np.nan
    with pytest.raises(DatasetError, match="not finite"):
        fit_head("kernel", Rows(broken, rows.embeddings), labels, 3)


@pytest.mark.parametrize(
    "setting", [{"inner_folds": 1}, {"neighbours": 0}, {"c": 0.0}, {"gamma": float("nan")}]
)
def test_settings_no_head_can_use_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} is"):
        HeadSettings(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FITTED_KINDS)
def test_settings_go_through_json_and_missing_arrays_are_named(kind: str) -> None:
    rows, labels = blobs()
    head = fit_head(kind, rows, labels, 3, prompts=named_prompts(rows, labels))
    settings = json.loads(json.dumps(head.settings, allow_nan=False))
    arrays = head.arrays()
    assert (load_head(kind, settings, arrays).scores(rows) == head.scores(rows)).all()
    assert all(array.dtype != object for array in arrays.values())
    name = next(iter(arrays))
    del arrays[name]
    with pytest.raises(StoreError, match=f"{name.split('.')[-1]}.*fit it again"):
        load_head(kind, settings, arrays)
