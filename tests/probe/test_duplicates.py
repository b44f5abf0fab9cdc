"""Repeats are found by bytes, or by hash and features together; chains join, nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.probe import duplicates as module
from miniclip.probe.duplicates import (
    MOST_BITS,
    SURE,
    Pictures,
    Repeats,
    cosine_needed,
    find_known,
    find_repeats,
)
from miniclip.probe.facts import MIRROR_MASKS
from miniclip.probe.table import FeatureTable
from tests.probe.images import make_facts, make_table

PAIRS = 40  # of a picture and its copy, before pictures of no copy


def changed(bits: int, rng: np.random.Generator) -> int:
    """Return a mask of that many of 64 bits."""
    return sum(1 << int(place) for place in rng.choice(64, bits, replace=False))


def make_copies(*, bits: int, cosine: float, alone: int = 60) -> FeatureTable:
    """Rows 2i and 2i + 1 are a picture and its copy, of a hash and features so far apart."""
    rng = np.random.default_rng(0)
    features, hashes = [], []
    for number in range(PAIRS + alone):
        first, aside = np.linalg.qr(rng.standard_normal((512, 2)))[0].T
        key = int(rng.integers(1 << 63))
        features.append(first)
        hashes.append(key)
        if number < PAIRS:
            features.append(cosine * first + np.sqrt(1 - cosine**2) * aside)
            hashes.append(key ^ changed(bits, rng))
    return make_table(
        np.array(features) * 3 + 1, [make_facts(perceptual_hash=key) for key in hashes]
    )


def run(table: FeatureTable) -> Repeats:
    return find_repeats(table, np.zeros(len(table), dtype=np.int64))


# Bits and cosine on the two sides of the line, and 0.02 of luck.
@pytest.mark.parametrize(
    ("bits", "cosine"), [(0, 0.57), (4, 0.69), (10, 0.87), (12, SURE + 0.02), (MOST_BITS, 0.9)]
)
def test_copies_are_found_by_hash_and_features_together(bits: int, cosine: float) -> None:
    repeats = run(make_copies(bits=bits, cosine=cosine + 0.01))
    assert (repeats.exact, repeats.near) == (0, PAIRS)
    expected = [*np.repeat(np.arange(PAIRS), 2), *np.arange(PAIRS, PAIRS + 60)]
    np.testing.assert_array_equal(repeats.group, expected)
    assert repeats.pairs[1] == ("2.jpg", "3.jpg", False)


@pytest.mark.parametrize(
    ("bits", "cosine"), [(MOST_BITS + 1, 1.0), (0, 0.5), (4, 0.62), (10, 0.8), (16, 0.85)]
)
def test_one_of_the_two_alone_is_not_enough(bits: int, cosine: float) -> None:
    repeats = run(make_copies(bits=bits, cosine=cosine))
    assert repeats.near == 0
    assert repeats.pairs == ()
    assert len(np.unique(repeats.group)) == len(repeats.group)


def test_the_farther_the_hashes_the_more_the_features_have_to_say() -> None:
    needed = cosine_needed(np.arange(65, dtype=np.uint8))
    assert needed[0] == 0.55
    assert (np.diff(needed[: MOST_BITS + 1]) >= 0).all()
    assert needed[MOST_BITS] == SURE
    assert np.isinf(needed[MOST_BITS + 1 :]).all()


def test_mirrored_and_upside_down_copies_are_repeats() -> None:
    table = make_copies(bits=0, cosine=0.95)
    facts = [
        make_facts(perceptual_hash=each.perceptual_hash ^ (0, *MIRROR_MASKS)[row % 8 // 2])
        if row % 2
        else each
        for row, each in enumerate(table.facts)
    ]
    assert run(make_table(table.features[0], facts)).near == PAIRS


def test_blocks_leave_no_pair_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_copies(bits=2, cosine=0.99)
    whole = run(table)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 3 * len(table))
    monkeypatch.setattr(module, "_GATHERED", 4)
    assert repr(run(table)) == repr(whole)
    assert run(table).pairs == whole.pairs


def test_equal_bytes_are_repeats_whatever_else() -> None:
    rng = np.random.default_rng(1)
    facts = [make_facts(perceptual_hash=int(key)) for key in rng.integers(1 << 62, size=6)]
    table = make_table(rng.standard_normal((6, 32)), facts, contents=["a", "b", "a", "c", "a", "c"])
    repeats = find_repeats(table, np.array([0, 0, 0, 1, 1, 1]))
    assert (repeats.exact, repeats.near) == (3, 0)
    assert repeats.group.tolist() == [0, 1, 0, 2, 0, 2]
    assert repeats.pairs == (
        ("0.jpg", "2.jpg", True),
        ("0.jpg", "4.jpg", True),
        ("3.jpg", "5.jpg", True),
    )
    assert repeats.conflicting == (("0.jpg", "4.jpg", 0, 1),)


def test_a_near_repeat_under_another_label_conflicts_too() -> None:
    table = make_copies(bits=1, cosine=0.99)
    labels = np.zeros(len(table), dtype=np.int64)
    labels[5] = 1
    assert find_repeats(table, labels).conflicting == (("4.jpg", "5.jpg", 0, 1),)


def half(table: FeatureTable, first: int) -> FeatureTable:
    return table.rows(np.arange(first, len(table), 2))


def test_repeats_of_another_set_are_found_as_in_one_set(monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_copies(bits=10, cosine=0.89, alone=0)
    facts = [
        make_facts(perceptual_hash=each.perceptual_hash ^ (0, *MIRROR_MASKS)[row % 8 // 2])
        if row % 2
        else each
        for row, each in enumerate(table.facts)
    ]
    table = make_table(table.features[0], facts, contents=[f"{row:02}" for row in range(2 * PAIRS)])
    known, new = half(table, 0).rows(np.arange(PAIRS)[::-1]), half(table, 1)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 3 * PAIRS)
    found = find_known(new, Pictures(known.contents, known.pooled.astype(np.float16), known.hashes))
    assert found.tolist() == list(range(PAIRS))[::-1]
    far = half(make_copies(bits=10, cosine=0.8, alone=0), 1)
    assert set(find_known(far, Pictures((), known.pooled[:0], known.hashes[:0])).tolist()) == {-1}
    pictures = Pictures(("x",) * PAIRS, known.pooled, known.hashes)
    assert set(find_known(far, pictures).tolist()) == {-1}


def test_equal_bytes_come_first_and_are_all_that_is_known_without_hashes() -> None:
    table = make_copies(bits=1, cosine=0.99, alone=0)
    known, new = half(table, 0), half(table, 1)
    new = make_table(new.features[0], new.facts, contents=["x", "y", *map(str, range(PAIRS - 2))])
    contents = (*map(str, range(100, 100 + PAIRS - 2)), "y", "y")
    alike = Pictures(contents, known.pooled, known.hashes)
    assert find_known(new, alike).tolist() == [0, PAIRS - 2, *range(2, PAIRS)]
    blind = alike._replace(hashes=None)
    assert find_known(new, blind).tolist() == [-1, PAIRS - 2, *[-1] * (PAIRS - 2)]


def test_copies_of_copies_are_one_group() -> None:
    """The first and the third are too far apart to be found without the second."""
    hashes = [0, 0xFFFF, 0xFFFF_FFFF, 0x0F0F_3333_5A5A_9999]
    facts = [make_facts(perceptual_hash=key) for key in hashes]
    repeats = run(make_table(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]), facts))
    assert repeats.group.tolist() == [0, 0, 0, 1]
    assert repeats.near == 2
    assert repeats.pairs == (("0.jpg", "1.jpg", False), ("1.jpg", "2.jpg", False))


def test_no_images_have_no_repeats() -> None:
    assert run(make_table(np.empty((0, 8)))).group.shape == (0,)
