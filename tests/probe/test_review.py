"""The folder for a person: sorted by decision and label, and nothing outside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from miniclip.probe.predict import DecisionName, Prediction
from miniclip.probe.review import ReviewFolder

ODD = (".", "..", "a/b", "a_b", "../../out", "x\ny", "l" * 300, "紙" * 200, "", "glass")


def prediction(path: Path, label: str, decision: DecisionName = "review") -> Prediction:
    return Prediction(
        name=str(path),
        labels=((label, 0.6),),
        label_set=(label,),
        decision=decision,
        reason="",
        nearest=(),
    )


@pytest.mark.parametrize("link", [False, True])
def test_odd_labels_stay_inside_each_in_a_folder_of_its_own(tmp_path: Path, link: bool) -> None:
    source = tmp_path / "photos" / "red.png"
    source.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(source)
    folder = ReviewFolder(tmp_path / "look" / "here", link=link)
    for label in ODD:
        folder.take(prediction(source, label))
    folder.take(prediction(source, "glass", "auto"))
    found = [path for path in tmp_path.rglob("*.png") if path != source]
    assert {path.parent.parent for path in found} == {tmp_path / "look" / "here" / "review"}
    assert len({path.parent for path in found}) == len(found) == len(ODD)
    assert (tmp_path / "look" / "here" / "review" / "glass" / "red.png").exists()


def test_the_longest_names_get_a_number_too(tmp_path: Path) -> None:
    sources = [tmp_path / name / ("n" * 251 + ".png") for name in ("a", "b")]
    folder = ReviewFolder(tmp_path / "look")
    for source in sources:
        source.parent.mkdir()
        Image.new("RGB", (8, 8), "red").save(source)
        folder.take(prediction(source, "glass"))
    assert len(list((tmp_path / "look" / "review" / "glass").iterdir())) == 2
