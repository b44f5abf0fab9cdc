"""Two presets on the same images, with a trainer that pretends: who sees what, and the ratio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Head, Rows, fit_head
from miniclip.probe.learn import Labelled
from miniclip.probe.results import Curves, FitResult
from miniclip.testing import FakeEncoder
from tests.probe.photos import make_photos


@dataclass(frozen=True)
class Pretended:
    head: Head
    curves: Curves


@dataclass
class Trainer:
    """A nearest-mean head and made-up curves; remembers what it was given."""

    calls: list[tuple[str | None, Labelled, Labelled, tuple[str, ...]]] = field(
        default_factory=list
    )

    def __call__(
        self,
        train: Labelled,
        validation: Labelled,
        *,
        classes: int,
        preset: str | None,
        overrides: Sequence[str],
        seed: int,
    ) -> Pretended:
        self.calls.append((preset, train, validation, tuple(overrides)))
        rows = Rows(train[0], np.ones((len(train[0]), 1), dtype=np.float32))
        rise = 0.8 if preset == "baseline" else 0.1
        losses = (1.0, 0.5, 0.5 + rise)
        head = fit_head("prototype", rows, train[1], classes, seed=seed)
        return Pretended(head, Curves((1.0, 0.4, 0.1), losses, (0.5, 0.8, 1.0), (0.5, 0.7, 0.7)))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        yield cache


def run(data: Path, cache: VectorCache, trainer: Trainer, **settings: object) -> FitResult:
    usual = {"folds": 3, "compare_presets": True, "mlp_overrides": ("epochs=3",)}
    chosen = FitSettings(**usual | settings)  # type: ignore[arg-type]
    splits = read_labelled_splits(data)
    return fit_classifier(FakeEncoder(), splits, cache, chosen, trainer=trainer).result


def test_the_first_fold_is_held_out_and_draws_the_curves(
    tmp_path: Path, cache: VectorCache
) -> None:
    trainer = Trainer()
    result = run(make_photos(tmp_path / "photos", 12, spread=90), cache, trainer, views="flip")
    assert [call[0] for call in trainer.calls] == ["baseline", "robust"]
    for _, train, validation, overrides in trainer.calls:
        assert overrides == ("epochs=3",)
        assert len(train[0]) == 2 * (36 - len(validation[0]))  # two views to learn from
        seen = {row.tobytes() for row in train[0]}
        assert not any(row.tobytes() in seen for row in validation[0])
        assert len(validation[0]) == 12
    presets = result.presets
    assert presets is not None
    baseline, robust = presets.runs
    assert (baseline.rise, robust.rise) == pytest.approx((0.8, 0.1))
    assert presets.ratio_of_rises == pytest.approx(8)
    assert baseline.accuracy == robust.accuracy
    assert presets.comparison.verdict == "no difference"


def test_a_val_part_takes_the_place_of_folds(tmp_path: Path, cache: VectorCache) -> None:
    for seed, part in enumerate(("train", "val")):
        make_photos(tmp_path / "split" / part, 10, seed=seed, spread=90)
    trainer = Trainer()
    run(tmp_path / "split", cache, trainer)
    assert [len(call[1][0]) for call in trainer.calls] == [30, 30]
    assert [len(call[2][0]) for call in trainer.calls] == [30, 30]


def test_an_mlp_without_a_preset_has_rows_of_its_own_to_stop_by(
    tmp_path: Path, cache: VectorCache
) -> None:
    data = make_photos(tmp_path / "photos", 12, spread=90)
    own, preset = Trainer(), Trainer()
    alone = {"head": "mlp", "compare_presets": False, "mlp_overrides": ()}
    run(data, cache, own, **alone)
    run(data, cache, preset, **alone, preset="robust")
    *_, (_, train, validation, _) = own.calls  # the last training is of the final head
    assert len(train[0]) + len(validation[0]) == 36
    *_, (name, train, _, _) = preset.calls
    assert (name, len(train[0])) == ("robust", 36)
