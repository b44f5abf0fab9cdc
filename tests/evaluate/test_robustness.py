"""Robustness: honest images, vectors kept through a kill, and the errors of Hendrycks' formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.corruptions import corrupt
from miniclip.datasets.captions import CaptionedImage, CaptionSet
from miniclip.datasets.folders import read_labelled
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.embed import embed_all
from miniclip.encoder import ImageVectors
from miniclip.errors import ConfigError
from miniclip.evaluate.retrieval import evaluate_retrieval
from miniclip.evaluate.robustness import RobustnessResult, run_robustness
from miniclip.evaluate.robustness.conditions import CLEAN, Condition, CorruptedImages
from miniclip.evaluate.robustness.corruption_error import corruption_errors
from miniclip.evaluate.robustness.honest import stratified
from miniclip.evaluate.robustness.subjects import (
    Caches,
    Draw,
    Subjects,
    caption_subjects,
    fitted_subjects,
    zeroshot_subjects,
)
from miniclip.evaluate.zeroshot import evaluate_zeroshot
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.preprocess import preprocess
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import ClassifierModel, write_model
from miniclip.testing import FakeEncoder, picture
from miniclip.views import PLAIN
from tests.probe.photos import make_photos

NOISE = Condition("gaussian_noise", 3)
ENCODER = FakeEncoder()


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caches]:
    folder = tmp_path_factory.mktemp("caches")
    with VectorCache.open(folder / "whole") as whole, VectorCache.open(folder / "other") as other:
        yield Caches(whole, other)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 20, spread=70)


def fit(photos: Path, caches: Caches, place: Path, **settings: object) -> tuple[Fitted, Path]:
    chosen = FitSettings(folds=3, target_error=0.1, **settings)  # type: ignore[arg-type]
    fitted = fit_classifier(ENCODER, read_labelled_splits(photos), caches.whole, chosen)
    write_model(place, fitted.contents())
    return fitted, place


@pytest.fixture(scope="module")
def model(
    photos: Path, caches: Caches, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, Path]:
    return fit(photos, caches, tmp_path_factory.mktemp("models") / "kernel")


def subjects_of(models: Sequence[Path], data: Path, caches: Caches, images: int = 1000) -> Subjects:
    opened = {place.name: ClassifierModel.open(place) for place in models}
    encoders = dict.fromkeys(opened, ENCODER)
    return fitted_subjects(opened, encoders, read_labelled_splits(data), caches, Draw(images))


def run(subjects: Subjects, baseline: str | None = None) -> RobustnessResult:
    return run_robustness(
        subjects.contestants,
        subjects.units,
        subjects.pictures,
        corruptions=("gaussian_noise", "colour_cast"),
        severities=(1, 5),
        baseline=baseline,
        judged_by=subjects.judged_by,
    )


# Who may judge


def test_on_its_own_training_data_a_model_says_what_it_said_held_out(
    model: tuple[Fitted, Path], photos: Path, caches: Caches
) -> None:
    fitted, place = model
    result = run(subjects_of([place], photos, caches))
    (one,) = result.models
    assert result.warnings == ()
    assert (
        one.judged_by
        == "heads fitted again without the fold of the image, as at the fit: 60 images"
    )
    clean, at_the_fit = one.figures[CLEAN], fitted.result.figures
    assert clean["accuracy"].value == at_the_fit.scores.accuracy.value
    assert clean["coverage"].value == at_the_fit.conformal.coverage.value
    assert clean["automatic"].value == at_the_fit.abstention.automatic.value
    assert clean["ece"].value == pytest.approx(at_the_fit.scores.ece.value)


def test_images_that_a_model_has_learnt_from_do_not_judge_it(
    photos: Path, caches: Caches, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        part = "val" if number % 4 == 0 else "train"
        to = tmp_path / "split" / part / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    _, place = fit(tmp_path / "split", caches, tmp_path / "model")
    subjects = subjects_of([place], tmp_path / "split", caches)
    assert len(subjects.units.names) == 15
    assert {name.split("/")[0] for name in subjects.units.names} == {"val"}
    assert "45 images that a model has learnt from are left out" in subjects.units.about


def test_new_images_are_judged_by_the_model_as_it_is(
    model: tuple[Fitted, Path], caches: Caches, tmp_path: Path
) -> None:
    new = make_photos(tmp_path / "new", 8, seed=1, spread=70)
    subjects = subjects_of([model[1]], new, caches)
    assert len(subjects.units.names) == 24
    assert list(subjects.judged_by.values()) == [
        "the model as it is, on images that are not among those of its fit"
    ]


def test_a_part_of_the_training_data_alone_flatters_and_is_said_to(
    model: tuple[Fitted, Path], photos: Path, caches: Caches, tmp_path: Path
) -> None:
    for path in sorted(photos.rglob("*.png"))[::2]:
        to = tmp_path / "half" / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    (warning,) = run(subjects_of([model[1]], tmp_path / "half", caches)).warnings
    assert "every image of half was learnt from by kernel" in warning


def test_drawn_images_keep_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    rows = stratified(labels, 20, seed=0)
    assert np.bincount(labels[rows]).tolist() == [12, 6, 2]
    assert (rows != stratified(labels, 20, seed=1)).any()
    assert stratified(labels, 500, seed=0).tolist() == list(range(100))


# Vectors


def sources_of(photos: Path, count: int) -> tuple[list[ImageSource], list[str]]:
    paths = sorted(photos.rglob("*.png"))[:count]
    return [ImageSource.of(path) for path in paths], [f"{row:064x}" for row in range(count)]


class Dying(FakeEncoder):
    """Is killed at its third batch."""

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        batches.append(len(pixels))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return super().encode_pixels(pixels)


batches: list[int] = []


def test_vectors_are_those_of_pictures_corrupted_on_the_canvas(
    photos: Path, caches: Caches
) -> None:
    sources, contents = sources_of(photos, 5)
    images = CorruptedImages(ENCODER, sources, contents, caches.corrupted, views=(PLAIN,), seed=7)
    assert images.fill([CLEAN, NOISE], lambda _done: None) == 10
    clean = embed_all(ENCODER, sources)
    assert np.array_equal(images.seen(CLEAN, (PLAIN,)).embeddings, clean.embeddings)
    assert np.array_equal(images.seen(CLEAN, (PLAIN,)).features[0], clean.features)
    seen = images.seen(NOISE, (PLAIN,))
    for row in range(5):
        pixels = preprocess(Image.fromarray(images.picture(row, NOISE)), ENCODER.image_spec)
        vectors = ENCODER.encode_pixels(pixels[None])
        assert seen.embeddings[row] == pytest.approx(vectors.embeddings[0], abs=1e-6)
        assert seen.features[0, row] == pytest.approx(vectors.features[0], abs=1e-6)
    assert not np.array_equal(images.picture(0, NOISE), images.picture(0, CLEAN))


def test_a_run_that_was_killed_goes_on_where_it_was(photos: Path, tmp_path: Path) -> None:
    sources, contents = sources_of(photos, 60)
    conditions = [Condition("fog", severity) for severity in (1, 2)]
    batches.clear()
    with VectorCache.open(tmp_path / "cache") as cache:
        images = CorruptedImages(Dying(), sources, contents, cache, views=(PLAIN,))
        with pytest.raises(KeyboardInterrupt):
            images.fill(conditions, lambda _done: None)
        done: list[int] = []
        assert images.fill(conditions, done.append) == 120 - 2 * 32
        assert (done[0], done[-1]) == (64, 120)
        assert images.fill(conditions, lambda _done: None) == 0
        again = CorruptedImages(Dying(), sources[::-1], contents[::-1], cache, views=(PLAIN,))
        assert again.fill(conditions, lambda _done: None) == 0
        assert np.array_equal(
            again.seen(conditions[0], (PLAIN,)).embeddings,
            images.seen(conditions[0], (PLAIN,)).embeddings[::-1],
        )


def test_another_seed_corrupts_otherwise(photos: Path, caches: Caches) -> None:
    sources, contents = sources_of(photos, 2)
    one, other = (
        CorruptedImages(ENCODER, sources, contents, caches.corrupted, views=(PLAIN,), seed=seed)
        for seed in (0, 1)
    )
    assert not np.array_equal(one.picture(0, NOISE), other.picture(0, NOISE))
    assert not np.array_equal(one.picture(0, NOISE), one.picture(1, NOISE))
    assert np.array_equal(one.picture(0, CLEAN), other.picture(0, CLEAN))
    assert corrupt(one.picture(0, CLEAN), "fog", 1, np.random.default_rng(0)).shape == (16, 16, 3)


# Corruption errors


def made_up(rng: np.random.Generator, right: float) -> dict[Condition, np.ndarray]:
    conditions = [CLEAN, *(Condition(c, s) for c, s in product(("fog", "snow"), (1, 3)))]
    return {
        condition: rng.random(200) < right - 0.1 * condition.severity for condition in conditions
    }


def test_corruption_errors_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    own, base = made_up(rng, 0.95), made_up(rng, 0.9)
    found = corruption_errors(own, base, np.arange(200))
    ce, rce = [], []
    for name in ("fog", "snow"):
        errors = [np.mean([~model[Condition(name, s)] for s in (1, 3)]) for model in (own, base)]
        lost = [
            sum((~model[Condition(name, s)]).mean() - (~model[CLEAN]).mean() for s in (1, 3))
            for model in (own, base)
        ]
        ce.append(errors[0] / errors[1])
        rce.append(lost[0] / lost[1])
        score = found.ce[name]
        assert score is not None
        assert score.value == pytest.approx(ce[-1])
        assert score.interval.low < ce[-1] < score.interval.high
        assert found.error[name].value == pytest.approx(errors[0])
    assert found.mce is not None
    assert found.relative_mce is not None
    assert found.mce.value == pytest.approx(np.mean(ce))
    assert found.relative_mce.value == pytest.approx(np.mean(rce))


def test_a_model_beside_itself_has_an_mce_of_one() -> None:
    own = made_up(np.random.default_rng(0), 0.9)
    found = corruption_errors(own, own, np.arange(200))
    assert found.mce is not None
    assert (found.mce.value, *found.mce.interval) == (1, 1, 1)


def test_a_baseline_that_never_errs_gives_no_quotient() -> None:
    own = made_up(np.random.default_rng(0), 0.9)
    perfect = {condition: np.ones(200, dtype=bool) for condition in own}
    found = corruption_errors(own, perfect, np.arange(200))
    assert found.mce is found.relative_mce is found.ce["fog"] is None
    assert corruption_errors(own, None, np.arange(200)).mce is None


# A whole run


def test_two_models_are_compared_in_pairs_and_colours_go_wrong(
    model: tuple[Fitted, Path], photos: Path, caches: Caches, tmp_path: Path
) -> None:
    _, other = fit(photos, caches, tmp_path / "prototypes", head="prototype")
    result = run(subjects_of([model[1], other], photos, caches, images=45))
    assert result.images == 45
    assert result.baseline == "kernel"
    (paired,) = result.paired
    first, second = result.models
    correct = [
        np.mean([one.figures[c]["accuracy"].value for c in one.figures if c != CLEAN])
        for one in (second, first)
    ]
    assert paired.overall.difference == pytest.approx(correct[0] - correct[1])
    assert set(paired.by_corruption) == {"gaussian_noise", "colour_cast"}
    strong, weak = (first.figures[Condition("colour_cast", s)]["accuracy"].value for s in (5, 1))
    assert strong < weak
    assert first.worst[0].truth != first.worst[0].said
    assert "beside kernel: mCE" in str(result)
    assert {
        "accuracy",
        "ece",
        "coverage",
        "automatic",
        "interval",
        "severity",
        "corruption",
    } <= set(result.to_dict()["models"][0]["conditions"][0])


def test_a_baseline_that_does_not_take_part_is_refused(
    model: tuple[Fitted, Path], photos: Path, caches: Caches
) -> None:
    with pytest.raises(ConfigError, match="the baseline 'other' is none of kernel"):
        run(subjects_of([model[1]], photos, caches), baseline="other")


def test_models_of_other_classes_cannot_be_compared(
    model: tuple[Fitted, Path], photos: Path, caches: Caches
) -> None:
    opened = ClassifierModel.open(model[1])
    models = {"one": opened, "two": replace(opened, classes=("a", "b", "c"))}
    with pytest.raises(ConfigError, match="two knows the classes a, b, c"):
        fitted_subjects(
            models, dict.fromkeys(models, ENCODER), read_labelled_splits(photos), caches, Draw(9)
        )


def test_clean_zero_shot_is_that_of_evaluate(caches: Caches, tmp_path: Path) -> None:
    for number, (label, colour) in enumerate((("red", "red"), ("red", "pink"), ("blue", "blue"))):
        (tmp_path / label).mkdir(exist_ok=True)
        picture(colour).save(tmp_path / label / f"{number}.png")
    labelled = read_labelled(tmp_path)
    result = run(zeroshot_subjects(ENCODER, labelled, ["a {} thing"], caches, Draw(100)))
    whole = evaluate_zeroshot(ENCODER, labelled, ["a {} thing"])
    assert result.models[0].figures[CLEAN]["accuracy"].value == whole.top1
    assert "coverage" not in result.models[0].figures[CLEAN]


def test_clean_retrieval_is_that_of_evaluate(caches: Caches, tmp_path: Path) -> None:
    images = []
    for colour in ("red", "green", "blue", "yellow", "black", "white", "pink"):
        picture(colour).save(tmp_path / f"{colour}.png")
        captions = (f"a {colour} thing", "something green")
        images.append(CaptionedImage(colour, ImageSource.of(tmp_path / f"{colour}.png"), captions))
    captioned = CaptionSet("colours", tuple(images), (), "made up")
    result = run(caption_subjects(ENCODER, captioned, caches, Draw(100)))
    whole = evaluate_retrieval(ENCODER, captioned)
    clean = result.models[0].figures[CLEAN]
    for k in (1, 5, 10):
        assert clean[f"text to image recall@{k}"].value == whole.text_to_image.scores[f"recall@{k}"]
        assert clean[f"image to text recall@{k}"].value == whole.image_to_text.scores[f"recall@{k}"]
    assert result.headline == "text to image recall@5"
