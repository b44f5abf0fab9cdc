"""How pixels are made, read from every spelling of preprocessor_config.json and never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.pull.image_specs import image_spec_from, read_preprocessor

NEW: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}
OLD: dict[str, Any] = {
    "do_resize": True,
    "size": 224,
    "resample": 2,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}
SQUARE = {"height": 224, "width": 224}


def spec(values: dict[str, Any]) -> Any:
    return image_spec_from(Document("preprocessor_config.json", values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (NEW, (224, "shortest", 224)),
        (NEW | {"size": {"shortest_edge": 256}}, (224, "shortest", 256)),
        (NEW | {"size": SQUARE}, (224, "squash", 224)),
        (NEW | {"size": {"height": 256, "width": 256}}, (224, "squash", 256)),
        (OLD, (224, "squash", 224)),
        (OLD | {"do_center_crop": True, "crop_size": 224}, (224, "shortest", 224)),
        (OLD | {"crop_pct": 0.875}, (224, "shortest", 256)),
        (OLD | {"size": {"shortest_edge": 384}, "crop_pct": 1.0}, (384, "squash", 384)),
        (
            OLD | {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875},
            (224, "shortest", 256),
        ),
    ],
)
def test_every_spelling_of_the_geometry_is_understood(
    values: dict[str, Any], expected: tuple[int, str, int]
) -> None:
    found = spec(values)
    assert (found.side, found.resize, found.resize_side) == expected


def test_colours_and_filter_are_taken_over() -> None:
    found = spec(NEW)
    assert (found.interpolation, found.mean, found.std) == ("bicubic", (0.5, 0.4, 0.3), (0.5,) * 3)
    assert spec(NEW | {"do_normalize": False}).std == (1, 1, 1)


@pytest.mark.parametrize("key", sorted(set(NEW) - {"image_processor_type"}))
def test_what_a_new_file_does_not_say_is_refused_by_name(key: str) -> None:
    values = {name: value for name, value in NEW.items() if name != key}
    with pytest.raises(BundleError, match=f"does not say '{key}'"):
        spec(values)


@pytest.mark.parametrize("key", sorted(set(OLD) - {"do_normalize"}))
def test_an_old_file_may_leave_out_what_went_without_saying(key: str) -> None:
    values = {name: value for name, value in OLD.items() if name != key}
    with pytest.raises(BundleError, match=f"does not say '{key}'"):
        spec(values)


@pytest.mark.parametrize(
    "change",
    [
        {"resample": 0},
        {"resample": True},
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False},
        {"do_resize": False},
        {"do_normalize": "yes"},
        {"do_center_crop": "yes"},
        {"do_center_crop": False},
        {"size": {"height": 32, "width": 48}},
        {"size": {"shortest_edge": 224, "longest_edge": 448}},
        {"size": 0},
        {"crop_pct": 0.875},
    ],
)
def test_what_cannot_be_reproduced_is_refused_by_name(change: dict[str, Any]) -> None:
    (key,) = change
    with pytest.raises(BundleError, match=rf"({key}|do_center_crop|size) = .*can be reproduced"):
        spec(NEW | change)


def test_a_key_that_nobody_reads_is_refused_unless_it_is_off() -> None:
    with pytest.raises(BundleError, match="do_thumbnail = True, which is not known"):
        spec(NEW | {"do_thumbnail": True})
    with pytest.raises(BundleError, match="do_pad = True"):
        spec(NEW | {"do_pad": True})
    assert spec(NEW | {"do_thumbnail": None, "do_pad": False}) == spec(NEW)


def test_a_mean_of_two_numbers_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match="mean is"):
        spec(NEW | {"image_mean": [0.5, 0.5]})


def test_two_files_must_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(NEW))
    nested = tmp_path / "processor_config.json"
    nested.write_text(json.dumps({"image_processor": NEW, "processor_class": "CLIPProcessor"}))
    assert read_preprocessor(tmp_path).need("size") == {"shortest_edge": 224}

    nested.write_text(json.dumps({"image_processor": NEW | {"resample": 2}}))
    with pytest.raises(BundleError, match=r"says resample = 3, but .* says 2"):
        read_preprocessor(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_preprocessor(tmp_path).need("resample") == 2


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no preprocessor_config\.json"):
        read_preprocessor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(BundleError, match="no readable JSON"):
        read_preprocessor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[1]")
    with pytest.raises(BundleError, match="holds list"):
        read_preprocessor(tmp_path)
