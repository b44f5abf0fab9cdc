"""The MLP head: presets as published, curves that tell the truth, a head that needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from miniclip.errors import ConfigError, DatasetError, TrainingError
from miniclip.train.mlp import (
    PRESETS,
    LabelledRows,
    MlpFit,
    MlpSettings,
    fit_mlp,
    mlp_settings,
)

pytestmark = pytest.mark.train
CLASSES, WIDTH = 3, 40


def clouds(count: int, *, seed: int, spread: float = 3.0) -> LabelledRows:
    """Three clouds that overlap, with a scale and an offset of its own for each feature."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, WIDTH))
    labels = np.arange(count) % CLASSES
    rows = centres[labels] + spread * rng.normal(size=(count, WIDTH))
    rows = rows * np.linspace(0.01, 100, WIDTH) + np.linspace(-5, 50, WIDTH)
    return LabelledRows(rows.astype(np.float32), labels.astype(np.int64))


TRAIN, VALIDATION = clouds(90, seed=1), clouds(60, seed=2)
SHORT = MlpSettings(hidden=16, epochs=12, batch_size=16, patience=0)


def fitted(settings: MlpSettings = SHORT, **options: Any) -> MlpFit:
    return fit_mlp(TRAIN, VALIDATION, settings, classes=CLASSES, **options)


def logits_by_hand(arrays: dict[str, NDArray[Any]], features: NDArray[Any]) -> NDArray[Any]:
    x = (features.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    hidden = np.maximum(x @ arrays["w1"] + arrays["b1"], 0)
    logits: NDArray[Any] = hidden @ arrays["w2"] + arrays["b2"]
    return logits


def judged_by_hand(fit: MlpFit, rows: LabelledRows) -> tuple[float, float]:
    """Return cross-entropy and accuracy, from plain arrays."""
    logits = logits_by_hand(fit.head.arrays(), rows.features)
    right = logits[np.arange(len(logits)), rows.labels]
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - right)
    return float(loss), float(np.mean(logits.argmax(axis=1) == rows.labels))


def test_the_presets_are_those_of_the_published_experiment() -> None:
    baseline, robust = PRESETS["baseline"], PRESETS["robust"]
    assert (baseline.learning_rate, baseline.weight_decay, baseline.dropout) == (1e-3, 1e-4, 0.3)
    assert (robust.learning_rate, robust.weight_decay, robust.dropout) == (1e-4, 5e-4, 0.4)
    assert (baseline.batch_norm, robust.batch_norm) == (False, True)
    for preset in PRESETS.values():
        assert (preset.epochs, preset.patience) == (500, 0)
    assert MlpSettings().patience > 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_head_without_torch_scores_what_the_curves_say(batch_norm: bool) -> None:
    fit = fitted(replace(SHORT, batch_norm=batch_norm))
    loss, accuracy = judged_by_hand(fit, VALIDATION)
    assert loss == pytest.approx(fit.curves.validation_loss[-1], rel=1e-4)
    assert accuracy == fit.curves.validation_accuracy[-1]
    assert fit.epoch == len(fit.curves.train_loss) == SHORT.epochs


def test_early_stopping_returns_the_best_epoch_and_waits_no_longer_than_it_should() -> None:
    fit = fitted(replace(SHORT, epochs=400, patience=5, learning_rate=0.01))
    losses = fit.curves.validation_loss
    assert fit.epoch == 1 + int(np.argmin(losses))
    assert len(losses) == fit.epoch + 5 < 400
    assert judged_by_hand(fit, VALIDATION)[0] == pytest.approx(min(losses), rel=1e-4)


def test_the_baseline_runs_away_and_the_robust_preset_hardly() -> None:
    """The published finding, on clouds that overlap."""
    baseline, robust = (
        fitted(replace(PRESETS[name], epochs=300, hidden=64)).curves
        for name in ("baseline", "robust")
    )
    assert baseline.train_loss[-1] < 0.01
    assert baseline.rise > 0.25
    assert baseline.rise > 2 * robust.rise
    assert abs(baseline.validation_accuracy[-1] - robust.validation_accuracy[-1]) < 0.1


def test_a_seed_decides_everything() -> None:
    one, same, other = (fitted(seed=seed) for seed in (4, 4, 5))
    for name, array in one.head.arrays().items():
        np.testing.assert_array_equal(array, same.head.arrays()[name])
    assert one.curves == same.curves
    assert one.curves != other.curves


def test_progress_tells_every_epoch() -> None:
    told: list[int] = []
    fitted(progress=told.append)
    assert told == list(range(1, SHORT.epochs + 1))


def test_a_feature_that_never_moves_does_no_harm() -> None:
    still = LabelledRows(TRAIN.features.copy(), TRAIN.labels)
    still.features[:, 3] = 0.1
    fit = fit_mlp(still, VALIDATION, SHORT, classes=CLASSES)
    assert np.isfinite(fit.curves.validation_loss).all()


def test_settings_are_overridden_by_name_and_refused_by_name() -> None:
    settings = mlp_settings("baseline", ["hidden=8", "learning_rate=0.01"])
    assert settings == replace(PRESETS["baseline"], hidden=8, learning_rate=0.01)
    assert mlp_settings() == MlpSettings()
    for overrides, message in (
        (["hiden=8"], r"unknown key mlp\.hiden; did you mean mlp\.hidden"),
        (["hidden=0"], r"mlp\.hidden is 0"),
        (["dropout=1.0"], r"mlp\.dropout is 1\.0"),
        (["batch_size=1"], r"mlp\.batch_size is 1"),
        (["epochs=many"], r"mlp\.epochs is 'many'"),
    ):
        with pytest.raises(ConfigError, match=message):
            mlp_settings("robust", overrides)
    with pytest.raises(ConfigError, match="preset is 'bold'; choose one of baseline, robust"):
        mlp_settings("bold")


def test_rows_that_cannot_be_learned_from_are_refused() -> None:
    wrong = VALIDATION._replace(labels=VALIDATION.labels + 1)
    with pytest.raises(DatasetError, match=r"validation labels go from 1 to 3"):
        fit_mlp(TRAIN, wrong, SHORT, classes=CLASSES)
    with pytest.raises(DatasetError, match="training rows have the shape"):
        fit_mlp(TRAIN._replace(labels=TRAIN.labels[:5]), VALIDATION, SHORT, classes=CLASSES)


def test_a_rate_that_explodes_is_named() -> None:
    with pytest.raises(TrainingError, match=r"lower learning_rate"):
        fitted(replace(SHORT, learning_rate=1e20, batch_norm=False))
