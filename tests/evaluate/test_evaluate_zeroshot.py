"""Zero-shot evaluation from class folders to scores, with an encoder that knows colours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miniclip.datasets.folders import read_labelled
from miniclip.errors import ConfigError, DatasetError
from miniclip.evaluate.zeroshot import Confusion, evaluate_zeroshot
from miniclip.testing import COLOURS, FakeEncoder, picture


def paint(root: Path, **photos: list[str]) -> Path:
    """Write the class folder `label` with one photo of each given colour."""
    for label, colours in photos.items():
        (root / label).mkdir(parents=True)
        for number, colour in enumerate(colours):
            picture(colour).save(root / label / f"{number}.png")
    return root


def test_accuracy_per_class_and_the_mistakes(tmp_path: Path) -> None:
    data = paint(tmp_path / "d", red=["red", "red", "blue", "blue"], blue=["blue"], green=["red"])
    result = evaluate_zeroshot(FakeEncoder(), read_labelled(data), ["a {} thing"])
    assert result.top1 == pytest.approx(3 / 6)
    assert result.per_class == {"blue": 1.0, "green": 0.0, "red": 0.5}
    assert (result.top5, result.top5_k) == (1.0, 3)
    assert result.n == 6
    assert result.confusions == (Confusion("red", "blue", 2), Confusion("green", "red", 1))
    low, high = result.intervals["top1"]
    assert 0 <= low < 0.5 < high <= 1
    assert "6 images, 3 classes, d, 1 templates" in result.protocol


def test_top5_among_more_than_five_classes(tmp_path: Path) -> None:
    photos = {name: [name] for name in COLOURS}
    photos["red"] = ["black"]  # its true class ties with all others that are not black: last
    result = evaluate_zeroshot(FakeEncoder(), read_labelled(paint(tmp_path / "d", **photos)))
    assert result.top5_k == 5
    assert result.top1 == result.top5 == pytest.approx(10 / 11)


def test_names_of_a_labels_file_are_what_is_asked(tmp_path: Path) -> None:
    data = paint(tmp_path / "d", n1=["red"], n2=["blue"])
    names = tmp_path / "names.txt"
    names.write_text("n1=red\nn2=blue\n")
    assert evaluate_zeroshot(FakeEncoder(), read_labelled(data, names)).top1 == 1.0
    names.write_text("n1=blue\nn2=red\n")
    assert evaluate_zeroshot(FakeEncoder(), read_labelled(data, names)).top1 == 0.0


def test_undecodable_images_are_listed_and_not_counted(tmp_path: Path) -> None:
    data = paint(tmp_path / "d", red=["red"], blue=["blue"])
    (data / "red" / "bad.jpg").write_bytes(b"text")
    (data / "blue" / "0.png").write_bytes(b"")
    result = evaluate_zeroshot(FakeEncoder(), read_labelled(data))
    assert result.n == 1
    assert result.per_class == {"blue": None, "red": 1.0}
    assert [item.name for item in result.skipped] == ["blue/0.png", "red/bad.jpg"]
    assert "no image" in str(result)
    (data / "red" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"none of the 2 images of d .*first: blue/0\.png"):
        evaluate_zeroshot(FakeEncoder(), read_labelled(data))


def test_the_dictionary_is_the_contract_of_the_command_line(tmp_path: Path) -> None:
    data = paint(tmp_path / "d", red=["red", "green"], blue=["blue"], green=["green"])
    result = evaluate_zeroshot(FakeEncoder(), read_labelled(data), ["{}", "a {} thing"]).to_dict()
    assert {"top1", "top5", "per_class", "interval", "n", "templates", "skipped"} <= set(result)
    assert result["templates"] == ["{}", "a {} thing"]
    assert result["confusions"] == [{"label": "red", "predicted": "green", "images": 1}]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_bad_templates_are_refused_before_any_image_is_read(tmp_path: Path) -> None:
    labelled = read_labelled(paint(tmp_path / "d", red=["red"], blue=["blue"]))
    seen: list[int] = []
    with pytest.raises(ConfigError, match="exactly one"):
        evaluate_zeroshot(FakeEncoder(), labelled, ["a photo"], progress=seen.append)
    assert seen == []
