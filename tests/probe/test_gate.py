"""The gate against a double loop, and how many it refuses of its own and of strangers."""

from __future__ import annotations

import numpy as np
import pytest

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError, StoreError
from miniclip.probe import gate as gate_file
from miniclip.probe.gate import Gate, held_out_distances, load_gate


def own_images(count: int, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Three clusters in 40 dimensions; folds by turns."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 40))
    rows = centres[rng.integers(3, size=count)] + 0.4 * rng.normal(size=(count, 40))
    return rows.astype(np.float32), np.arange(count) % 5


def strangers(count: int) -> FloatArray:
    return np.random.default_rng(7).normal(size=(count, 40)).astype(np.float32)


def test_distance_is_one_minus_the_mean_cosine_of_the_nearest() -> None:
    rows, folds = own_images(60)
    gate = Gate.fit(rows, folds)
    for image, found in zip(strangers(5), gate.distance(strangers(5)), strict=True):
        cosines = sorted(
            float(image @ row) / float(np.linalg.norm(image) * np.linalg.norm(row)) for row in rows
        )
        assert found == pytest.approx(1 - np.mean(cosines[-gate.neighbours :]), abs=1e-3)


def test_new_images_of_the_kind_pass_and_strangers_do_not() -> None:
    refused = []
    for seed in range(10):
        rows, folds = own_images(400, seed)
        gate = Gate.fit(rows, folds, seed=seed)
        refused.append(gate.refuses(own_images(500, seed + 100)[0]).mean())
        assert gate.refuses(strangers(200)).mean() >= 0.99
    assert np.mean(refused) <= 0.015  # 1 % is promised on average


def test_the_held_out_images_are_refused_no_more_than_promised() -> None:
    rows, folds = own_images(1000)
    for share in (0.01, 0.05, 0.2):
        gate = Gate.fit(rows, folds, max_refused=share)
        refused = (held_out_distances(rows, folds) > gate.threshold).mean()
        assert share - 0.002 <= refused <= share
    few, few_folds = own_images(30)
    assert not (held_out_distances(few, few_folds) > Gate.fit(few, few_folds).threshold).any()


def test_a_copy_in_another_fold_is_what_groups_prevent() -> None:
    """The same images twice: apart, each finds its copy and the gate shuts on everybody else."""
    rows, _ = own_images(100)
    twice = np.concatenate([rows, rows])
    together = np.concatenate([np.arange(100) % 5] * 2)
    apart = np.arange(200) // 100
    new = own_images(300, 5)[0]
    assert Gate.fit(twice, together).refuses(new).mean() < 0.05
    assert Gate.fit(twice, apart).threshold < Gate.fit(twice, together).threshold


def test_memory_is_bounded_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, folds = own_images(300)
    monkeypatch.setattr(gate_file, "REFERENCES", 50)
    gate = Gate.fit(rows, folds, seed=1)
    assert gate.references.shape == (50, 40)
    assert gate.references.dtype == np.float16
    distances = gate.distance(rows)
    monkeypatch.setattr(gate_file, "_BLOCK", 7)
    assert gate.distance(rows) == pytest.approx(distances, abs=1e-6)
    assert gate.refuses(own_images(200, 3)[0]).mean() < 0.06


def test_it_comes_back_from_json_and_npz_as_it_was() -> None:
    rows, folds = own_images(80)
    gate = Gate.fit(rows, folds)
    again = load_gate(gate.settings, gate.arrays())
    assert (again.refuses(strangers(50)) == gate.refuses(strangers(50))).all()
    assert (again.distance(rows) == gate.distance(rows)).all()
    with pytest.raises(StoreError, match="'mahalanobis'"):
        load_gate({**gate.settings, "kind": "mahalanobis"}, gate.arrays())
    with pytest.raises(StoreError, match="incomplete"):
        load_gate(gate.settings, {})
    with pytest.raises(StoreError, match="no reference image"):
        load_gate(gate.settings, {"references": np.empty((0, 40), np.float16)})


def test_what_cannot_be_learnt_is_refused() -> None:
    rows, folds = own_images(20)
    with pytest.raises(ConfigError, match="at least 2 folds"):
        Gate.fit(rows, np.zeros(20, dtype=np.int64))
    with pytest.raises(ConfigError, match="max_refused is 0"):
        Gate.fit(rows, folds, max_refused=0)
