"""Searches and filters of both stores against plain arithmetic, over few images.

`python -m benchmarks.stores` does the same over 100,000.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.stores import QUESTIONS, measure

pytest.importorskip("pymilvus")


def test_both_stores_find_what_arithmetic_finds_and_a_copy_there_and_back_is_identical(
    tmp_path: Path,
) -> None:
    report = measure(count=1_100, dim=16, folder=tmp_path, searches=3)

    assert report.identical
    for answers in report.stores.values():
        assert {name: one.recall for name, one in answers.items()} == dict.fromkeys(QUESTIONS, 1.0)
        assert all(one.same_images for one in answers.values())
        assert all(len(first) == 10 for first in answers["half"].first)
    assert report.fine
    assert not replace(report, identical=False).fine
