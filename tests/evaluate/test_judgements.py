"""Human judgements: the two files of Flickr8k, the scores of CLIPScore, and Kendall's taus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from miniclip.arrays import FloatArray, unit_rows
from miniclip.datasets.judgements import read_judgements
from miniclip.errors import DatasetError
from miniclip.evaluate.judgements import clip_scores, judge, ref_clip_scores, tau
from miniclip.testing import FakeEncoder, picture

CAPTIONS = """\
red.jpg#0\ta red wall
red.jpg#1\tsomething red
blue.jpg#0\ta blue  car
blue.jpg#1\tblue and white
green.jpg#0\tgreen grass
"""
EXPERT = """\
red.jpg\tred.jpg#0\t4\t4\t4
red.jpg\tblue.jpg#0\t1\t1\t2
red.jpg\tgreen.jpg#0\t1\t2\t1
blue.jpg\tred.jpg#1\t1\t1\t1
blue.jpg\tblue.jpg#1\t3\t4\t4
blue.jpg\tgreen.jpg#0\t2\t1\t1
"""
CROWD = """\
red.jpg\tred.jpg#0\t1\t3\t0
red.jpg\tblue.jpg#0\t0\t0\t3
blue.jpg\tred.jpg#1\t0.333333333333\t1\t2
blue.jpg\tblue.jpg#1\t0.666666666667\t2\t1
"""


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    for colour in ("red", "blue", "green"):
        picture(colour).save(tmp_path / f"{colour}.jpg")
    (tmp_path / "Flickr8k.token.txt").write_text(CAPTIONS)
    (tmp_path / "ExpertAnnotations.txt").write_text(EXPERT)
    (tmp_path / "CrowdFlowerAnnotations.txt").write_text(CROWD)
    return tmp_path


def test_both_files_are_told_apart_by_their_numbers(flickr: Path) -> None:
    captions = flickr / "Flickr8k.token.txt"
    expert = read_judgements(flickr / "ExpertAnnotations.txt", captions)
    crowd = read_judgements(flickr / "CrowdFlowerAnnotations.txt", captions)
    assert (expert.judges, crowd.judges) == ("expert", "crowdflower")
    assert [source.name for source in expert.sources] == ["red.jpg", "blue.jpg"]
    assert expert.references == (("a red wall", "something red"), ("a blue car", "blue and white"))
    assert [one.ratings for one in expert.judgements][:2] == [(4, 4, 4), (1, 1, 2)]
    assert [one.own for one in expert.judgements] == [True, False, False, False, True, False]
    assert [one.ratings[0] for one in crowd.judgements] == pytest.approx([1, 0, 1 / 3, 2 / 3])


def test_lines_that_lead_nowhere_are_skipped_by_name(flickr: Path) -> None:
    path = flickr / "ExpertAnnotations.txt"
    path.write_text(
        EXPERT + "gone.jpg\tred.jpg#0\t1\t1\t1\nred.jpg\tgone.jpg#0\t1\t1\t1\nred.jpg\tno\n"
    )
    read = read_judgements(path, flickr / "Flickr8k.token.txt")
    assert len(read.judgements) == 6
    assert [(one.name, one.reason.split(":")[0]) for one in read.skipped] == [
        ("ExpertAnnotations.txt line 9", "neither ratings nor shares"),
        ("ExpertAnnotations.txt line 7", f"no image file gone.jpg in {flickr}"),
        ("ExpertAnnotations.txt line 8", "no caption gone.jpg#0 in Flickr8k.token.txt"),
    ]
    path.write_text(EXPERT + CROWD)
    with pytest.raises(DatasetError, match="both ratings and shares"):
        read_judgements(path, flickr / "Flickr8k.token.txt")
    path.write_text("red.jpg\tgone.jpg#0\t1\t1\t1\n")
    with pytest.raises(DatasetError, match="nothing usable"):
        read_judgements(path, flickr / "Flickr8k.token.txt")


@pytest.mark.parametrize("judges", ["Expert", "CrowdFlower"])
def test_taus_are_those_of_scipy_on_scores_made_by_hand(flickr: Path, judges: str) -> None:
    read = read_judgements(flickr / f"{judges}Annotations.txt", flickr / "Flickr8k.token.txt")
    encoder = FakeEncoder()
    rows = unit_rows(np.random.default_rng(2).normal(size=(2, encoder.embedding_dim)))
    judged = judge(encoder, read, dict(enumerate(rows)), prefix="A photo depicts ")

    def text(caption: str) -> FloatArray:
        (row,) = encoder.encode_texts([f"A photo depicts {caption}"])
        found: FloatArray = row
        return found

    scores, ref_scores, ratings = [], [], []
    for one in read.judgements:
        if one.own and judges == "Expert":  # as in Anderson et al. 2016
            continue
        clip = 2.5 * max(float(rows[one.image] @ text(one.caption)), 0)
        others = [other for other in read.references[one.image] if other != one.caption]
        best = max(0.0, *(float(text(one.caption) @ text(other)) for other in others))
        for rating in one.ratings:
            scores.append(clip)
            ref_scores.append(2 * clip * best / (clip + best) if clip + best else 0.0)
            ratings.append(rating)
    assert judged.clipscore == pytest.approx(scores, abs=1e-6)
    assert judged.refclipscore == pytest.approx(ref_scores, abs=1e-6)
    assert judged.left_out == (2 if judges == "Expert" else 0)
    for variant in ("b", "c"):
        for ours, theirs in ((judged.clipscore, scores), (judged.refclipscore, ref_scores)):
            assert ours is not None
            found = tau(ours, judged.ratings, judged.image, variant, resamples=40)
            expected = kendalltau(np.round(theirs, 6), ratings, variant=variant).statistic
            assert found.value == pytest.approx(expected)
            assert found.interval.low <= found.interval.high


def test_the_interval_draws_images_with_all_their_judgements() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(12), 3)
    ratings = rng.integers(1, 5, size=36).astype(np.float64)
    scores = ratings + rng.normal(size=36)
    found = tau(scores, ratings, image, "b", seed=5, resamples=50)
    draws = np.random.default_rng(5).integers(12, size=(12, 50)).T
    by_hand = []
    for drawn in draws:
        rows = np.concatenate([np.flatnonzero(image == one) for one in drawn])
        by_hand.append(kendalltau(scores[rows], ratings[rows], variant="b").statistic)
    assert tuple(found.interval) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_scores_below_zero_are_zero() -> None:
    clip = clip_scores(np.array([0.4, -0.2, 0.4]))
    assert clip.tolist() == pytest.approx([1.0, 0.0, 1.0])
    assert ref_clip_scores(clip, np.array([0.5, 0.5, -1.0])).tolist() == pytest.approx(
        [2 / 3, 0, 0]
    )


def test_without_references_there_is_no_refclipscore(flickr: Path) -> None:
    (flickr / "Flickr8k.token.txt").write_text("red.jpg#0\ta red wall\n")
    (flickr / "CrowdFlowerAnnotations.txt").write_text("red.jpg\tred.jpg#0\t1\t3\t0\n")
    read = read_judgements(flickr / "CrowdFlowerAnnotations.txt", flickr / "Flickr8k.token.txt")
    encoder = FakeEncoder()
    rows = {0: encoder.encode_texts(["red"])[0]}
    assert judge(encoder, read, rows, prefix="").refclipscore is None
    with pytest.raises(DatasetError, match="none of the 1 judgements"):
        judge(encoder, read, {}, prefix="")
