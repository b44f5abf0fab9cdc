"""Nearest rows against a double loop."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.probe import neighbours
from miniclip.probe.neighbours import Neighbours


def test_they_are_those_of_a_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(30, 5)), rng.normal(size=(20, 5))
    own, other = rng.integers(3, size=20), rng.integers(3, size=30)
    for apart in (None, (own, other)):
        found, cosines = Neighbours(rows).nearest(queries, 4, apart=apart)
        for query in range(20):
            each = [
                (rows[row] @ queries[query])
                / (np.linalg.norm(rows[row]) * np.linalg.norm(queries[query]))
                if apart is None or own[query] != other[row]
                else -np.inf
                for row in range(30)
            ]
            assert found[query].tolist() == np.argsort(-np.array(each))[:4].tolist()
            np.testing.assert_allclose(cosines[query], np.sort(each)[::-1][:4], atol=1e-6)


def test_there_may_be_fewer_rows_than_asked_for() -> None:
    found, cosines = Neighbours(np.eye(2)).nearest(np.array([[1.0, 0.1]]), 5)
    assert found.tolist() == [[0, 1]]
    _, cosines = Neighbours(np.eye(2)).nearest(
        np.eye(2), 2, apart=(np.array([0, 1]), np.array([0, 1]))
    )
    assert np.isneginf(cosines[:, 1]).all()
