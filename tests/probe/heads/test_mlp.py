"""The perceptron's forward pass against loops over units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from miniclip.errors import StoreError
from miniclip.probe.heads import Rows, load_head


def small() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    shapes = {"mean": (4,), "w1": (4, 5), "b1": (5,), "w2": (5, 3), "b2": (3,)}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["scale"] = rng.uniform(0.5, 2, 4)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def test_scores_are_those_of_a_loop_over_units() -> None:
    parts = small()
    features = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    scores = load_head("mlp", {}, parts).scores(Rows(features, np.zeros((6, 2), np.float32)))
    cut = 0
    for row, logits in zip(features, scores, strict=True):
        x = [(row[f] - parts["mean"][f]) / parts["scale"][f] for f in range(4)]
        hidden = [
            max(0.0, sum(x[f] * parts["w1"][f, unit] for f in range(4)) + parts["b1"][unit])
            for unit in range(5)
        ]
        cut += hidden.count(0.0)
        for label in range(3):
            expected = sum(hidden[unit] * parts["w2"][unit, label] for unit in range(5))
            assert logits[label] == pytest.approx(expected + parts["b2"][label], abs=1e-5)
    assert 0 < cut < 30  # the ReLU has something to do


def test_a_saved_head_scores_the_same_and_keeps_its_settings() -> None:
    rows = Rows(np.ones((2, 4), np.float32), np.ones((2, 2), np.float32))
    head = load_head("mlp", {"hidden": 5}, small())
    again = load_head(head.kind, head.settings, head.arrays())
    assert (again.scores(rows) == head.scores(rows)).all()
    assert again.settings == {"hidden": 5}
    assert again.scores(rows).dtype == np.float64


@pytest.mark.parametrize("name", ["mean", "b1", "b2", "w2"])
def test_arrays_that_do_not_fit_together_are_refused(name: str) -> None:
    parts = small()
    parts[name] = parts[name][:-1]
    with pytest.raises(StoreError, match="fit it again"):
        load_head("mlp", {}, parts)
