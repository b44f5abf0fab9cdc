"""Ranking by cosine, against a plain double loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniclip.arrays import unit_rows
from miniclip.errors import ConfigError, ImageError
from miniclip.index.search import best_hits, best_rows, image_query
from miniclip.testing import FakeEncoder, picture


def test_the_order_is_that_of_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    rows = unit_rows(random.normal(size=(50, 8)))
    query = unit_rows(random.normal(size=(1, 8)))[0]
    naive = sorted(
        ((sum(float(a) * float(b) for a, b in zip(row, query, strict=True)), number)
         for number, row in enumerate(rows)),
        key=lambda pair: (-pair[0], pair[1]),
    )  # fmt: skip

    order, cosines = best_rows(rows, query, top=7)

    assert order == [number for _, number in naive[:7]]
    np.testing.assert_allclose(cosines, [cosine for cosine, _ in naive[:7]], atol=1e-6)


def test_equal_scores_keep_the_order_of_the_images() -> None:
    rows = np.ones((5, 1), dtype=np.float32)

    assert best_rows(rows, rows[0], top=5)[0] == [0, 1, 2, 3, 4]


def test_hits_name_the_images_and_may_be_fewer_than_asked_for() -> None:
    paths = [Path("a.jpg"), Path("b.jpg")]
    rows = np.eye(2, dtype=np.float32)

    hits = best_hits(paths, rows, rows[1], top=10)

    assert [(hit.path.name, hit.score) for hit in hits] == [("b.jpg", 1.0), ("a.jpg", 0.0)]


def test_asking_for_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="top is 0"):
        best_rows(np.eye(2, dtype=np.float32), np.ones(2, dtype=np.float32), top=0)


def test_an_example_image_finds_its_own_colour(tmp_path: Path) -> None:
    picture("blue").save(tmp_path / "q.png")
    encoder = FakeEncoder()

    texts = encoder.encode_texts(["red", "blue", "green"])

    assert best_rows(texts, image_query(encoder, tmp_path / "q.png"), top=1)[0] == [1]


def test_a_bad_example_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "q.png").write_text("no image")

    with pytest.raises(ImageError, match=r"q\.png: "):
        image_query(FakeEncoder(), tmp_path / "q.png")
