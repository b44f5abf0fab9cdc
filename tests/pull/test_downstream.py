"""Everything that follows a pull runs on what was pulled: two towers, or images alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip import load_encoder
from miniclip.arrays import FloatArray
from miniclip.bundle import Bundle
from miniclip.encoder import Encoder, ImageVectors
from miniclip.explain.occlusion import occlusion_map
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.probe.heads.head import Rows
from miniclip.probe.model import ClassifierModel
from miniclip.zeroshot import class_vectors
from tests.cli.conftest import Cli, cli
from tests.probe.photos import COLOURS, make_photos

pytest.importorskip("transformers")
from tests.hub_checkpoints import checkpoint

pytestmark = pytest.mark.train
__all__ = ["cli"]  # a fixture, borrowed

WIDTH, PROJECTED = 128, 48  # of the tiny CLIP of tests/hub_checkpoints.py: features, embedding


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in ("clip", "dinov2"):
        checkpoint(kind, root / kind)
    return root


@pytest.fixture(scope="module")
def bundles(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pull both as a user does."""
    from miniclip.cli import main  # noqa: PLC0415

    root = tmp_path_factory.mktemp("pulled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(root / "home"))
        for kind in ("clip", "dinov2"):
            source, out = str(checkpoints / kind), str(root / kind)
            with pytest.raises(SystemExit) as ended:
                main(["pull", source, "-o", out, "--licence", "MIT"])
            assert not ended.value.code
    return root


@pytest.fixture
def clip(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return Bundle.open(bundles / "clip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder per colour."""
    return make_photos(tmp_path_factory.mktemp("data") / "fruit", 15, spread=25)


def test_features_and_embedding_are_before_and_after_the_projection(
    clip: Bundle, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    assert (clip.manifest.feature_dim, clip.manifest.embedding_dim) == (WIDTH, PROJECTED)
    out = tmp_path / "vectors.npz"
    cli("embed", photos, "-o", out, "--features", "--bundle", clip.directory)
    with np.load(out) as arrays:
        assert arrays["features"].shape == (45, WIDTH)
        assert arrays["embeddings"].shape == (45, PROJECTED)


def test_search_ranks_by_the_pulled_model(cli: Cli, clip: Bundle, photos: Path) -> None:
    said = cli("search", "a photo of a cat", photos, "--bundle", clip.directory, "--json").json
    encoder = load_encoder(clip.directory)
    (wanted,) = encoder.encode_texts(["a photo of a cat"])
    assert said["bundle"] == clip.name
    assert len(said["hits"]) > 1
    for hit in said["hits"]:
        row = vectors(encoder, [Path(hit["path"])]).embeddings[0]
        assert hit["score"] == pytest.approx(float(row @ wanted), abs=2e-3)  # kept as float16
    scores = [hit["score"] for hit in said["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_an_index_of_it_is_searched_by_example(
    cli: Cli, clip: Bundle, photos: Path, tmp_path: Path
) -> None:
    index = ("--index", tmp_path / "index", "--bundle", clip.directory, "--json")
    assert cli("index", photos, *index).json["images"] == 45
    example = next(photos.rglob("*.png"))
    hits = cli("search", "--image", example, photos, *index).json["hits"]
    assert Path(hits[0]["path"]).name == example.name


def test_classify_is_softmax_over_the_scale_of_the_original(
    cli: Cli, clip: Bundle, photos: Path
) -> None:
    labels = ["red", "green", "blue"]
    said = cli(
        "classify", photos, "--labels", ",".join(labels), "--bundle", clip.directory, "--json"
    ).json
    encoder = load_encoder(clip.directory)
    image = said["images"][0]
    row = vectors(encoder, [Path(image["path"])]).embeddings[0]
    logits = encoder.logit_scale * class_vectors(encoder, labels) @ row
    expected = dict(zip(labels, np.exp(logits) / np.exp(logits).sum(), strict=True))
    for label in image["labels"]:
        assert label["probability"] == pytest.approx(expected[label["label"]], abs=5e-3)


@pytest.fixture(scope="module")
def fitted(bundles: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from miniclip.cli import main  # noqa: PLC0415

    out = tmp_path_factory.mktemp("fitted") / "model"
    words = ["fit", photos, "-o", out, "--folds", 3, "--bundle", bundles / "clip"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(bundles / "home"))
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--target-error", "0.1"])
    assert not ended.value.code
    return out


def test_fit_learns_from_the_features_before_the_projection(fitted: Path, clip: Bundle) -> None:
    model = ClassifierModel.open(fitted)
    assert model.bundle_fingerprint == clip.fingerprint
    assert model.reference.features.shape == (45, WIDTH)
    figures = json.loads((fitted / "metrics.json").read_text())
    assert figures["accuracy"]["value"] > 0.9  # even a random network tells colours apart


def test_predict_and_evaluate_agree_with_the_fit(
    cli: Cli, fitted: Path, clip: Bundle, tmp_path: Path
) -> None:
    new = make_photos(tmp_path / "fruit", 6, spread=25, seed=9)
    said = cli("predict", fitted, new, "--bundle", clip.directory, "--json").json
    right = [
        image["labels"][0]["label"] == Path(image["path"]).parent.name for image in said["images"]
    ]
    measured = cli("evaluate", "classifier", fitted, new, "--bundle", clip.directory, "--json").json
    assert len(right) == 18
    assert measured["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.9


def test_evaluations_with_words_run(cli: Cli, clip: Bundle, photos: Path, tmp_path: Path) -> None:
    model = ("--bundle", clip.directory, "--json")
    zeroshot = cli("evaluate", "zeroshot", "--data", photos, *model).json
    assert 0 <= zeroshot["top1"] <= 1
    assert set(zeroshot["per_class"]) == set(COLOURS)
    captions = tmp_path / "captions.txt"
    files = sorted(photos.rglob("*.png"))
    captions.write_text(
        "".join(
            f"{file.relative_to(photos)}#{n}\ta {file.parent.name} fruit, seen {n} times\n"
            for file in files
            for n in range(2)
        )
    )
    words = ("--images", photos, "--captions", captions)
    retrieval = cli("evaluate", "retrieval", *words, *model).json
    assert 0 < retrieval["text_to_image"]["recall@10"] <= 1


def test_explain_covers_patches_and_asks_the_pulled_model(fitted: Path, clip: Bundle) -> None:
    """The half that is red carries the answer red."""
    encoder, model = OnnxEncoder.open(clip), ClassifierModel.open(fitted)
    colours = list(model.classes)
    first, second = colours[:2]
    picture = Image.new("RGB", (64, 64), COLOURS[second])
    picture.paste(COLOURS[first], (0, 0, 32, 64))

    def score(seen: ImageVectors) -> FloatArray:
        scores = model.head.scores(Rows(seen.features, seen.embeddings))
        return (scores[:, 0] - scores[:, 1]).astype(np.float32)

    drops = occlusion_map(encoder, picture, score, cells=4)
    assert drops.shape == (4, 4)
    assert drops[:, 0].mean() > drops[:, 3].mean()


def test_a_pulled_model_of_images_alone_fits_and_predicts(
    cli: Cli, bundles: Path, photos: Path, tmp_path: Path
) -> None:
    model = ("--bundle", bundles / "dinov2")
    fit = cli("fit", photos, "-o", tmp_path / "model", "--folds", 3, *model, "--json")
    assert fit.code == 0, fit.err
    assert fit.json["accuracy"]["value"] > 0.9
    said = cli("predict", tmp_path / "model", photos, *model, "--json").json
    assert len(said["images"]) == 45
    refused = cli("classify", photos, "--labels", "red,green", *model)
    assert refused.code == 1
    assert "dinov2 has no text tower" in refused.err


def vectors(encoder: Encoder, files: list[Path]) -> ImageVectors:
    from miniclip.preprocess import preprocess  # noqa: PLC0415

    pixels = [preprocess(Image.open(file).convert("RGB"), encoder.image_spec) for file in files]
    return encoder.encode_pixels(np.stack(pixels))
