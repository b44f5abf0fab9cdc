"""The test of associations against a naive one, and on a space whose associations are known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from miniclip.arrays import unit_rows
from miniclip.audit.association import NamedSet, associate
from miniclip.errors import ConfigError
from miniclip.testing import FakeEncoder


def words(name: str, *items: str) -> NamedSet:
    return NamedSet(name, items, FakeEncoder().encode_texts(items))


def random_set(name: str, count: int, rng: np.random.Generator) -> NamedSet:
    rows = unit_rows(rng.normal(size=(count, 6)))
    return NamedSet(name, tuple(f"{name}{one}" for one in range(count)), rows)


@pytest.mark.parametrize("seed", range(3))
def test_effect_and_p_are_those_of_the_paper_word_for_word(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, a, b = (random_set(name, 3, rng) for name in "xyab")

    def s(row: int, targets: np.ndarray) -> float:
        near = [float(targets[row] @ other) for other in a.rows]
        far = [float(targets[row] @ other) for other in b.rows]
        return sum(near) / len(near) - sum(far) / len(far)

    rows = np.concatenate([x.rows, y.rows]).astype(np.float64)
    each = [s(row, rows) for row in range(6)]
    own = sum(each[:3]) - sum(each[3:])
    drawn = [
        sum(each[row] for row in order[:3]) - sum(each[row] for row in order[3:])
        for order in permutations(range(6))
    ]

    found = associate(x, y, a, b)

    assert found.exact
    assert found.partitions == 20
    assert found.p == pytest.approx(np.mean([one >= own - 1e-9 for one in drawn]), abs=1e-9)
    assert found.p_two_sided == pytest.approx(
        np.mean([abs(one) >= abs(own) - 1e-9 for one in drawn]), abs=1e-9
    )
    effect = (np.mean(each[:3]) - np.mean(each[3:])) / np.std(each, ddof=1)
    assert found.effect == pytest.approx(effect, abs=1e-6)


def test_a_known_association_is_found_and_turns_with_its_sides() -> None:
    x = words("warm", "red sun", "red fire", "red blood", "red rose")
    y = words("cold", "blue ice", "blue sea", "blue sky", "blue moon")
    a, b = words("reds", "red", "a red thing"), words("blues", "blue", "a blue thing")

    found, turned = associate(x, y, a, b), associate(y, x, a, b)

    assert found.effect > 1.5
    assert found.p == pytest.approx(1 / 70)
    assert turned.effect == pytest.approx(-found.effect)
    assert turned.p == 1
    assert min(found.per_target[item] for item in x.items) > 0
    assert "warm to reds and cold to blues" in str(found)


def test_large_sets_are_sampled_and_chance_is_no_finding() -> None:
    rng = np.random.default_rng(0)
    p = []
    for seed in range(20):
        sets = [random_set(name, 12, rng) for name in "xyab"]
        found = associate(*sets, seed=seed)
        assert not found.exact
        p.append(found.p)
    assert 0.2 < np.mean(p) < 0.8
    assert min(p) > 0


def test_a_set_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="one has 1 members"):
        associate(words("one", "red"), *[words("two", "red", "blue")] * 3)
