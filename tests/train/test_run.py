"""Whole runs on tiny towers and photos: what they leave behind, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from miniclip.errors import ConfigError, DatasetError, TrainingError
from miniclip.evaluate.retrieval import evaluate_retrieval
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.train.config import read_recipe
from miniclip.train.data.batches import Batch
from miniclip.train.data.sources import read_data
from miniclip.train.export.run import export_run, mean_recall
from miniclip.train.logs import read_curves
from miniclip.train.module import Contrastive
from miniclip.train.run import load_trained, train
from tests.train.tiny_run import STEPS, losses, numbers, write_recipe

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("shared_home")]

RECIPES = Path(__file__).parents[2] / "recipes"


def test_a_run_leaves_behind_all_that_is_needed_to_understand_it(
    recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    result = train(recipe, [], output)
    assert [step for step, _ in losses(output)] == [str(step) for step in range(1, STEPS + 1)]
    assert np.mean(numbers(output)[-3:]) < 0.6 * numbers(output)[0]
    facts = json.loads((output / "run.json").read_text())
    assert facts["images"] == {"train": 30, "dev": 10}
    assert facts["versions"]["torch"] == torch.__version__
    assert len(facts["data_fingerprint"]) == 64
    assert json.loads((output / "recipe.json").read_text())["views"]["count"] == 3
    assert json.loads((output / "result.json").read_text()) == result.to_dict()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "tensorboard").glob("events.out.*"))
    assert "Many captions describe several images" in (output / "doctor.log").read_text()
    assert result.steps == STEPS
    assert result.best_step in (5, 10, 15)
    assert 0 < result.scores["dev_recall_mean"] <= 1
    assert "mean dev recall" in str(result)


def test_the_best_model_comes_back_as_it_was(unbroken: Path) -> None:
    model, settings, step, scores = load_trained(unbroken)
    assert settings.name == "tiny"
    result = json.loads((unbroken / "result.json").read_text())
    assert (step, scores) == (result["best_step"], result["scores"])
    assert not model.training
    assert float(model.feature_std.std()) > 0  # standardised by the training features
    rows = model.encode_image(torch.zeros(2, 3, 32, 32))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("resnet50-distilbert", "resnet", "distilbert"), ("vit-small-bert-tiny", "vit", "bert")],
)
def test_recipes_with_hugging_face_towers_go_from_captions_to_a_measured_bundle(
    name: str, image: str, text: str, tmp_path: Path
) -> None:
    """The recipes as they are, but for tiny towers of the same architecture, tiny data, float32."""
    tiny = read_recipe(write_recipe(tmp_path, image=image, text=text))
    data = {
        f"data.{key}": getattr(tiny.data, key)
        for key in ("root", "captions", "images", "train_split", "dev_split")
    }
    towers = {"image.tower": tiny.image.tower, "text.tower": tiny.text.tower}
    size = {"train.batch": 8, "train.micro_batch": 3, "train.passes": 1, "machine.workers": 1}
    machine = {"machine.accelerator": "cpu", "train.precision": "32-true"}
    settings = data | towers | size | machine
    overrides = [f"{key}={value}" for key, value in settings.items()]
    result = train(RECIPES / f"{name}.toml", overrides, tmp_path / "run")
    assert result.steps == 4
    for part in ("image_tower", "text_tower", "heads"):
        assert float(read_curves(tmp_path / "run")[0][f"gradient_{part}"]) > 0
    bundle = export_run(tmp_path / "run", tmp_path / "bundle", full_weights=True)
    measured = evaluate_retrieval(OnnxEncoder.open(bundle), read_data(tiny.data)[1], resamples=1)
    assert mean_recall(measured) == pytest.approx(result.scores["dev_recall_mean"], abs=0.02)


def test_the_last_block_of_a_tower_can_learn(tmp_path: Path) -> None:
    """With nothing cached, the images are decoded and augmented on line, in a worker process."""
    recipe = write_recipe(tmp_path, image="vit", text="bert")
    overrides = ["image.trainable=last:1", "machine.workers=1", "views.jitter=0.2"]
    train(recipe, [*overrides, "train.passes=2"], tmp_path / "run")
    assert float(read_curves(tmp_path / "run")[0]["gradient_image_tower"]) > 0
    again = train(recipe, [*overrides, "train.passes=2"], tmp_path / "again")
    assert losses(tmp_path / "again") == losses(tmp_path / "run")
    assert again.steps == 8


def test_bfloat16_learns_too(recipe: Path, tmp_path: Path) -> None:
    train(recipe, ["train.precision=bf16-mixed"], tmp_path / "run")
    assert np.mean(numbers(tmp_path / "run")[-3:]) < 0.6 * numbers(tmp_path / "run")[0]


def test_it_stops_when_nothing_gets_better(recipe: Path, tmp_path: Path) -> None:
    """Without any learning rate the first evaluation stays the best."""
    overrides = ["train.rates.text_tower=0.0", "train.rates.heads=0.0", "train.average=0.0"]
    patience = ["evaluate.every=1", "evaluate.patience=3", "train.rates.scale=1e-9"]
    result = train(recipe, [*overrides, *patience], tmp_path / "run")
    assert result.stopped_early
    assert (result.steps, result.best_step) == (4, 1)


def test_bad_photos_are_left_out_by_name(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "data" / "images" / "003.png").write_bytes(b"not a picture")
    (tmp_path / "data" / "images" / "005.png").unlink()
    train(recipe, [], tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["images"]["train"] == 28
    assert {entry["name"] for entry in facts["skipped"]} == {"003.png", "005.png"}


def test_the_dev_split_is_never_trained_on(recipe: Path, tmp_path: Path) -> None:
    """Without a training split, what is left of the captions is used."""
    text = recipe.read_text().replace('train_split = "train.txt"\n', "")
    (tmp_path / "recipe.toml").write_text(text)
    train(tmp_path / "recipe.toml", ["train.passes=0.5"], tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"]["train"] == 30


def test_a_run_is_not_overwritten_nor_resumed_with_another_recipe(
    recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"no run in .* to resume"):
        train(recipe, [], output, resume=True)
    train(recipe, ["train.passes=0.5"], output)
    with pytest.raises(TrainingError, match="already holds a run"):
        train(recipe, [], output)
    with pytest.raises(TrainingError, match=r"begun with another train\.passes, train\.batch"):
        train(recipe, ["train.batch=4"], output, resume=True)


def test_a_batch_larger_than_the_data_is_refused_and_leaves_the_directory_free(
    recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a batch of 64 different images"):
        train(recipe, ["train.batch=64"], tmp_path / "run")
    assert train(recipe, ["train.passes=0.5"], tmp_path / "run").steps == 2


def test_photos_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, image="vit")
    for photo in (tmp_path / "data" / "images").iterdir():
        photo.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="none of 30"):
        train(recipe, ["image.trainable=all"], tmp_path / "run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("trainable", ["none", "all"])
def test_on_a_gpu_it_learns_and_is_resumed(
    trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, image="vit")
    overrides = [f"image.trainable={trainable}", "machine.accelerator=gpu", "train.micro_batch=3"]
    train(recipe, overrides, tmp_path / "unbroken")
    step = Contrastive.training_step

    def broken(self: Contrastive, batch: Batch, index: int) -> None:
        if batch.step == 7:
            raise MemoryError
        step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Contrastive, "training_step", broken)
        with pytest.raises(MemoryError):
            train(recipe, overrides, tmp_path / "broken")
    train(recipe, overrides, tmp_path / "broken", resume=True)
    first, second = numbers(tmp_path / "unbroken"), numbers(tmp_path / "broken")
    np.testing.assert_allclose(second, first, rtol=0.05)
