"""A class that facts about the file give away is named; an honest data set is left in peace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from miniclip.probe.facts import ImageFacts
from miniclip.probe.shortcuts import Shortcut, probe_shortcuts
from miniclip.probe.splits import make_folds
from tests.probe.images import make_facts, make_table

N = 300
LABELS = np.arange(N) % 3


def honest(rng: np.random.Generator) -> list[ImageFacts]:
    """Facts that vary, but not with the class."""
    return [
        make_facts(
            width=int(rng.integers(200, 900)),
            height=int(rng.integers(200, 900)),
            bytes=int(rng.integers(9_000, 90_000)),
            jpeg_tables=str(rng.choice(["aa", "bb", "cc"])),
            border=tuple(rng.random(12)),
        )
        for _ in range(N)
    ]


def probe(facts: Sequence[ImageFacts]) -> dict[str, Shortcut]:
    table = make_table(np.zeros((N, 2)), facts)
    folds = make_folds(LABELS, None, folds=5, seed=0)
    return {found.name: found for found in probe_shortcuts(table, LABELS, folds)}


def test_an_honest_data_set_raises_no_warning() -> None:
    found = probe(honest(np.random.default_rng(0)))
    assert list(found) == ["size", "encoding", "edge", "corners"]
    for shortcut in found.values():
        assert shortcut.warning is None
        assert shortcut.chance == pytest.approx(1 / 3)
        assert shortcut.accuracy.interval.low <= 1 / 3 + 0.05


@pytest.mark.parametrize(
    ("name", "given_away"),
    [
        ("size", lambda facts, label: {"width": 500, "height": 500} if label == 2 else {}),
        ("encoding", lambda facts, label: {"jpeg_tables": "dd"} if label == 2 else {}),
        ("encoding", lambda facts, label: {"mode": "L"} if label == 2 else {}),
        ("encoding", lambda facts, label: {"file_format": "PNG"} if label == 2 else {}),
        ("edge", lambda facts, label: {"border": (label / 3, *facts.border[1:])}),
        ("corners", lambda facts, label: {"border": (*facts.border[:-1], label / 3)}),
    ],
)
def test_only_the_fact_that_gives_the_class_away_is_named(name, given_away) -> None:  # type: ignore[no-untyped-def]
    facts = [
        make_facts(**vars(each) | given_away(each, label))
        for each, label in zip(honest(np.random.default_rng(1)), LABELS.tolist(), strict=True)
    ]
    found = probe(facts)
    warned = {shortcut.name for shortcut in found.values() if shortcut.warning}
    assert warned == {name}
    assert found[name].accuracy.value > 0.6
    assert f"{found[name].accuracy.value:.0%}" in str(found[name].warning)
    assert "33%" in str(found[name].warning)


def test_images_that_share_their_luck_widen_the_interval() -> None:
    table = make_table(np.zeros((N, 2)), honest(np.random.default_rng(2)))
    folds = make_folds(LABELS, None, folds=5, seed=0)
    alone = probe_shortcuts(table, LABELS, folds)[0].accuracy
    shared = probe_shortcuts(table, LABELS, folds, groups=LABELS + 3 * (np.arange(N) // 60))[0]
    assert shared.accuracy.value == alone.value
    assert np.ptp(shared.accuracy.interval) > np.ptp(alone.interval)
