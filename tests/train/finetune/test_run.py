"""Whole fine-tunings of a tiny tower: what they give, refuse, and how they outlive a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miniclip.arrays import IntArray, unit_rows
from miniclip.embed import embed_all
from miniclip.errors import ConfigError, TrainingError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.probe.heads.head import Rows
from miniclip.runtimes import load_encoder
from miniclip.train.finetune.feed import LabelledSources
from miniclip.train.finetune.run import (
    CHECKPOINT_FILE,
    RESULT_FILE,
    SETTINGS_FILE,
    Tuned,
    finetune,
)
from miniclip.train.finetune.settings import FinetuneSettings, finetune_settings
from miniclip.train.finetune.source import load_looks
from tests.train.finetune.conftest import CLASSES, PICTURES, Case

pytestmark = pytest.mark.train

SETTINGS = FinetuneSettings(
    unfreeze="last:1",
    epochs=4,
    batch_size=8,
    rate=0.003,
    head_rate=0.01,
    mixup=0.2,
    upside_down=True,
    precision="float32",
    alphas=(0.5, 1.0),
)


def tune(
    case: Case,
    output: Path,
    settings: FinetuneSettings = SETTINGS,
    groups: IntArray | None = None,
    **options: Any,
) -> Tuned:
    rows = np.arange(PICTURES)
    groups = rows if groups is None else groups
    images = LabelledSources(case.sources, case.labels, groups, CLASSES, rows[:21], rows[21:])
    return finetune(case.bundle, images, case.head, settings, output=output, **options)


@pytest.fixture(scope="module")
def tuned(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(case, tmp_path_factory.mktemp("tuned") / "run")


def features(encoder: OnnxEncoder, case: Case) -> np.ndarray:
    return embed_all(encoder, case.sources).features


def test_the_bundle_sees_otherwise_and_its_head_scores_what_the_training_judged(
    case: Case, tuned: Tuned
) -> None:
    encoder = OnnxEncoder.open(tuned.bundle)
    seen = embed_all(encoder, case.sources[21:])
    before = embed_all(OnnxEncoder.open(case.bundle), case.sources[21:])
    cosines = np.sum(unit_rows(seen.features) * unit_rows(before.features), axis=1)
    assert cosines.max() < 0.9999
    logits = tuned.head.scores(Rows(seen.features, seen.embeddings))
    right = logits[np.arange(9), case.labels[21:]]
    judged = tuned.judgements[tuned.alpha]
    loss = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - right))
    assert loss == pytest.approx(judged.loss, abs=2e-3)  # rows are kept in float16
    assert np.mean(logits.argmax(axis=1) == case.labels[21:]) == pytest.approx(judged.accuracy)


def test_it_learns(tuned: Tuned) -> None:
    curves = tuned.curves
    assert len(curves.train_loss) == SETTINGS.epochs
    assert curves.validation_loss[-1] < curves.validation_loss[0]
    assert tuned.judgements.keys() == {0.5, 1.0}
    of_the_epoch = curves.validation_loss[tuned.epoch - 1]
    assert tuned.judgements[1.0].loss == pytest.approx(of_the_epoch, abs=1e-4)


def test_texts_projection_and_pixels_stay_what_they_were(case: Case, tuned: Tuned) -> None:
    one, other = OnnxEncoder.open(case.bundle), OnnxEncoder.open(tuned.bundle)
    words = ["a red square", "blue"]
    np.testing.assert_array_equal(one.encode_texts(words), other.encode_texts(words))
    assert one.image_spec == other.image_spec
    manifest = tuned.bundle.manifest
    assert manifest.name == "tiny-vit-tuned"
    assert manifest.provenance["tuned"].startswith("last:1, epoch ")
    assert manifest.parity.image_cosine_min > 0.9999
    assert load_encoder(tuned.bundle.directory).fingerprint != one.fingerprint


def test_at_alpha_0_nothing_has_changed(case: Case, tmp_path: Path) -> None:
    still = tune(case, tmp_path / "run", replace(SETTINGS, epochs=1, alphas=(0.0,)))
    np.testing.assert_allclose(
        features(OnnxEncoder.open(still.bundle), case),
        features(OnnxEncoder.open(case.bundle), case),
        atol=1e-5,
    )
    np.testing.assert_array_equal(still.head.weights, case.head.weights)


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_as_the_unbroken_one(
    case: Case, tuned: Tuned, tmp_path: Path
) -> None:
    told: list[int] = []

    def kill(done: int) -> None:
        told.append(done)
        if done > 2 * 21 + 5:
            raise KilledError

    with pytest.raises(KilledError):
        tune(case, tmp_path / "run", progress=kill)
    assert (tmp_path / "run" / CHECKPOINT_FILE).exists()
    resumed = tune(case, tmp_path / "run", progress=told.append)
    assert told == [7, 14, 21, 28, 35, 42, 49, 49, 56, 63, 70, 77, 84]
    assert resumed.curves == tuned.curves
    assert resumed.judgements == tuned.judgements
    for name, array in tuned.head.arrays().items():
        np.testing.assert_array_equal(resumed.head.arrays()[name], array)
    assert resumed.bundle.files == tuned.bundle.files


def test_a_finished_run_is_read_and_not_repeated(case: Case, tuned: Tuned) -> None:
    run = tuned.bundle.directory.parent
    again = tune(case, run, progress=lambda _: pytest.fail("it trains again"))
    assert (again.curves, again.alpha, again.seconds) == (tuned.curves, tuned.alpha, tuned.seconds)
    assert json.loads((run / RESULT_FILE).read_text())["epoch"] == tuned.epoch
    with pytest.raises(TrainingError, match="another settings, seed;"):
        tune(case, run, replace(SETTINGS, epochs=9), seed=1)
    with pytest.raises(TrainingError, match="another images;"):
        tune(case, run, groups=np.zeros(PICTURES, dtype=np.int64))


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, unfreeze="none", lora_rank=2, epochs=1, mixup=0.0),
        replace(
            SETTINGS, unfreeze="last:1", views=3, upside_down=False, epochs=2, average=0.0, clip=0.0
        ),
        replace(SETTINGS, unfreeze="all", epochs=1, precision="bf16", patience=1),
    ],
    ids=["lora", "cached views", "bf16"],
)
def test_other_ways_to_tune_end_well_too(
    case: Case, tmp_path: Path, settings: FinetuneSettings
) -> None:
    result = tune(case, tmp_path / "run", settings)
    assert np.isfinite(result.curves.validation_loss).all()
    assert np.isfinite(features(OnnxEncoder.open(result.bundle), case)).all()


@pytest.mark.parametrize(
    ("processor", "precision"),
    [("", "float32"), ("_is_amx_tile_supported", "bf16"), ("_is_avx512_bf16_supported", "bf16")],
)
def test_bf16_is_taken_where_the_processor_multiplies_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: str, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        has_it = name == processor
        monkeypatch.setattr(torch.cpu, name, lambda has_it=has_it: has_it)

    def stop(_: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        tune(case, tmp_path / "run", replace(SETTINGS, precision="auto"), progress=stop)
    kept = json.loads((tmp_path / "run" / SETTINGS_FILE).read_text())
    assert kept["settings"]["precision"] == precision


def test_another_tower_is_refused_and_the_right_one_may_be_named(
    case: Case, tmp_path: Path
) -> None:
    from tests.train.tiny_checkpoints import image_checkpoint  # noqa: PLC0415

    other = image_checkpoint("dinov2", tmp_path / "other")
    with pytest.raises(TrainingError, match=r"is not the image tower of tiny-vit.*--tower"):
        tune(case, tmp_path / "run", tower=other)
    nameless = replace(case.bundle, manifest=replace(case.bundle.manifest, provenance={}))
    with pytest.raises(TrainingError, match=r"does not say what its tower was.*--tower"):
        load_looks(nameless)
    right = case.bundle.manifest.provenance["image_tower"]
    assert load_looks(nameless, right).tower.source == right


def test_images_that_do_not_fit_are_refused(case: Case, tmp_path: Path) -> None:
    rows = np.arange(PICTURES)

    def attempt(train: Any, validation: Any, classes: Sequence[str] = CLASSES) -> Tuned:
        images = LabelledSources(case.sources, case.labels, rows, tuple(classes), train, validation)
        return finetune(case.bundle, images, case.head, SETTINGS, output=tmp_path / "run")

    with pytest.raises(ConfigError, match="both trained on and judged by"):
        attempt(rows[:20], rows[19:])
    with pytest.raises(ConfigError, match="0 validation images"):
        attempt(rows, rows[:0])
    with pytest.raises(ConfigError, match="tells 3 classes apart, but there are 2"):
        attempt(rows[:20], rows[20:], CLASSES[:2])
    assert not (tmp_path / "run").exists()


def test_settings_are_read_by_name_and_checked() -> None:
    settings = finetune_settings(["unfreeze=last:4", "crop=[0.5, 1]", "epochs=3"])
    assert settings == replace(FinetuneSettings(), unfreeze="last:4", crop=(0.5, 1.0), epochs=3)
    for override, message in (
        ("epoch=3", r"unknown key finetune\.epoch; did you mean finetune\.epochs"),
        ("epochs=0", r"finetune\.epochs is 0"),
        ("layer_decay=0", r"finetune\.layer_decay is 0"),
        ("crop=[1, 0.5]", r"finetune\.crop"),
        ("alphas=[2]", r"finetune\.alphas"),
        ("views=2", r"finetune\.views are made once and never upside down"),
        ("unfreeze=none", r"nothing of the tower would learn"),
        ("precision=half", r"finetune\.precision is 'half'; choose one of auto"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune_settings(["upside_down=true", override])


def test_the_caller_keeps_his_random_numbers_and_threads(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    tune(case, tmp_path / "run", replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
