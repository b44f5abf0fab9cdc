"""Retrieval from photos to scores, with an encoder whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from miniclip.arrays import unit_rows
from miniclip.datasets.captions import CaptionedImage, CaptionSet, read_captions
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.evaluate.retrieval import evaluate_retrieval, score_retrieval
from miniclip.images import ImageSource
from miniclip.metrics import retrieval_ranks
from miniclip.testing import FakeEncoder, picture


@pytest.fixture
def colours(tmp_path: Path) -> CaptionSet:
    """Three photos with two captions each; one caption of the blue photo is plainly wrong."""
    for colour in ("red", "blue", "green"):
        picture(colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "captions.csv").write_text(
        "image,caption\n"
        "red.png,a red wall\n"
        "red.png,red\n"
        "blue.png,a blue car\n"
        "blue.png,red and green\n"
        "green.png,green grass\n"
        "green.png,a green door\n"
    )
    return read_captions(tmp_path / "captions.csv")


def test_scores_are_what_a_look_at_the_photos_says(colours: CaptionSet) -> None:
    result = evaluate_retrieval(FakeEncoder(), colours)
    # "red and green" is a caption of the blue photo, which comes last: rank 3 of 3.
    assert result.text_to_image.scores["recall@1"] == pytest.approx(5 / 6)
    assert result.text_to_image.scores["recall@5"] == 1.0
    assert result.text_to_image.scores["median_rank"] == 1.0
    assert result.text_to_image.scores["mrr"] == pytest.approx((5 + 1 / 3) / 6)
    # Blue has a caption that fits, and one hit is enough.
    assert result.image_to_text.scores["recall@1"] == 1.0
    assert "3 images, 6 texts, split captions" in result.protocol
    assert result.skipped == ()


def test_the_dictionary_is_the_contract_of_the_command_line(colours: CaptionSet) -> None:
    result = evaluate_retrieval(FakeEncoder(), colours).to_dict()
    assert list(result) == ["text_to_image", "image_to_text", "protocol", "skipped"]
    names = ["recall@1", "recall@5", "recall@10", "median_rank", "mrr"]
    for direction in ("text_to_image", "image_to_text"):
        assert list(result[direction]) == [*names, "interval"]
        assert list(result[direction]["interval"]) == names
        for low, high in result[direction]["interval"].values():
            assert low <= high
    assert json.loads(json.dumps(result)) == result


def test_an_image_that_does_not_decode_takes_its_captions_along(
    colours: CaptionSet, tmp_path: Path
) -> None:
    (tmp_path / "blue.png").write_bytes(b"no picture")
    seen: list[int] = []
    result = evaluate_retrieval(FakeEncoder(), colours, progress=seen.append)
    assert "2 images, 4 texts" in result.protocol
    assert result.text_to_image.scores["recall@1"] == 1.0
    assert [item.name for item in result.skipped] == ["blue.png"]
    assert result.to_dict()["skipped"][0]["reason"]
    assert seen[-1] == 3


def test_what_the_reader_skipped_stays_in_the_result(colours: CaptionSet) -> None:
    known = Skipped("captions.csv line 9", "empty caption")
    with_skipped = CaptionSet(colours.name, colours.images, (known,))
    assert evaluate_retrieval(FakeEncoder(), with_skipped).skipped == (known,)


def test_no_image_at_all_is_an_error_with_the_first_reason() -> None:
    bad = CaptionedImage("a.jpg", ImageSource(name="a.jpg", data=b"text"), ("a caption",))
    with pytest.raises(DatasetError, match=r"none of the 1 images of bad .*first: a\.jpg"):
        evaluate_retrieval(FakeEncoder(), CaptionSet("bad", (bad,)))


def test_scores_and_intervals_agree_with_a_bootstrap_by_hand() -> None:
    rng = np.random.default_rng(5)
    image = unit_rows(rng.normal(size=(30, 6)))
    owners = np.repeat(np.arange(30), 3)
    text = unit_rows(image[owners] + rng.normal(size=(90, 6)))
    result = score_retrieval(image, text, owners, split="toy", seed=9, resamples=60)
    ranks = retrieval_ranks(image, text, owners)
    for direction, per_image in (
        (result.text_to_image, [ranks.text_to_image[owners == i] for i in range(30)]),
        (result.image_to_text, [ranks.image_to_text[[i]] for i in range(30)]),
    ):
        draws = np.random.default_rng(9).integers(30, size=(60, 30))
        samples = [np.concatenate([per_image[i] for i in drawn]) for drawn in draws]
        by_hand = {
            "recall@5": [np.mean(sample < 5) for sample in samples],
            "median_rank": [np.median(sample) + 1 for sample in samples],
            "mrr": [np.mean(1 / (sample + 1)) for sample in samples],
        }
        for name, values in by_hand.items():
            expected = tuple(np.quantile(values, [0.025, 0.975]))
            assert direction.intervals[name] == pytest.approx(expected)


def test_the_result_prints_as_a_table(colours: CaptionSet) -> None:
    lines = str(evaluate_retrieval(FakeEncoder(), colours)).splitlines()
    assert lines[0].startswith("3 images")
    assert lines[1].split() == ["R@1", "%", "R@5", "%", "R@10", "%", "median", "MRR"]
    assert lines[2].startswith("text -> image")
    assert "83.3 [50.0, 100.0]" in lines[2]
    assert len({len(line) for line in lines[1:]}) == 1
