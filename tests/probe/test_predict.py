"""Predictions of a stream: in order, a batch at a time, with a reason for each decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.embed import Skipped
from miniclip.errors import BundleError
from miniclip.images import ImageSource
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Rows
from miniclip.probe.predict import Prediction, Predictor, predict_stream
from miniclip.probe.rules import judge
from miniclip.testing import FakeEncoder
from tests.probe.photos import make_photos


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorCache]:
    with VectorCache.open(tmp_path_factory.mktemp("cache") / "cache.sqlite3") as cache:
        yield cache


@pytest.fixture(scope="module")
def fitted(cache: VectorCache, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    photos = make_photos(tmp_path_factory.mktemp("photos"), 30, spread=60)
    settings = FitSettings(folds=3, target_error=0.1, views="flip")
    return fit_classifier(FakeEncoder(), read_labelled_splits(photos), cache, settings)


def test_a_stream_says_the_same_in_any_batches_and_names_what_it_skips(
    fitted: Fitted, cache: VectorCache, tmp_path: Path
) -> None:
    new = make_photos(tmp_path / "new", 7, seed=2, spread=60)
    (new / "leaf" / "broken.png").write_text("no image")
    sources = [ImageSource.of(path) for path in sorted(new.rglob("*.png"))]
    predictor = Predictor(fitted.model)
    whole = list(predict_stream(predictor, FakeEncoder(), sources, cache))
    parts = list(predict_stream(predictor, FakeEncoder(), sources, cache, batch_images=4))
    for one, other in zip(whole, parts, strict=True):
        assert (one.name, type(one)) == (other.name, type(other))
        if isinstance(one, Prediction) and isinstance(other, Prediction):
            assert one.probability == pytest.approx(other.probability)  # sums differ by rounding
            assert one.label_set == other.label_set
            assert one.decision == other.decision
            assert one.nearest[0].name == other.nearest[0].name
    assert [said.name for said in whole] == [source.name for source in sources]
    assert [Path(said.name).name for said in whole if isinstance(said, Skipped)] == ["broken.png"]


def test_a_stream_asks_for_no_more_than_a_batch_at_a_time(
    fitted: Fitted, cache: VectorCache
) -> None:
    asked = 0
    (path,) = fitted.prepared.table.paths[:1]

    def endless() -> Iterator[ImageSource]:
        nonlocal asked
        while True:
            asked += 1
            yield ImageSource.of(path)

    stream = predict_stream(
        Predictor(fitted.model), FakeEncoder(), endless(), cache, batch_images=3
    )
    for _ in range(4):
        next(stream)
    assert asked == 6


def test_probabilities_and_sets_are_those_of_the_rules(fitted: Fitted) -> None:
    table, model = fitted.prepared.table, fitted.model
    scores = np.mean(
        [
            model.head.scores(Rows(view, table.embeddings))
            for view in (table.features[0], table.features[1])
        ],
        axis=0,
    )
    judged = judge(model.rules, scores, table.contents)
    for place, said in enumerate(Predictor(model).predict(table)):
        for label, share in said.labels:
            expected = judged.probabilities[place, model.classes.index(label)]
            assert share == pytest.approx(expected)
        named = {model.classes[row] for row in np.flatnonzero(judged.label_sets[place])}
        assert set(said.label_set) == named


def decided(fitted: Fitted, *, threshold: float, gate: float = 2.0) -> Prediction:
    """Predict one image with other rules, or another gate."""
    model = fitted.model
    model = replace(
        model,
        gate=replace(model.gate, threshold=gate),
        rules=replace(model.rules, threshold=threshold),
    )
    (said,) = Predictor(model).predict(fitted.prepared.table.rows(np.array([0])))
    return said


def test_a_decision_has_its_reason(fitted: Fitted) -> None:
    sure = decided(fitted, threshold=0.0)
    assert (sure.decision, sure.reason[:11]) == ("auto", "sure enough")
    doubtful = decided(fitted, threshold=0.9999999)
    assert (doubtful.decision, doubtful.reason[:15]) == ("review", "not sure enough")
    never = decided(fitted, threshold=2.0)
    assert never.decision == "review"
    assert "no threshold keeps the error" in never.reason
    foreign = decided(fitted, threshold=0.0, gate=-1.0)
    assert foreign.decision == "out-of-scope"
    assert "limit -1" in foreign.reason


def test_another_encoder_is_refused_before_the_first_image(
    fitted: Fitted, cache: VectorCache
) -> None:
    with pytest.raises(BundleError, match=r"'fake' .* this is 'other'"):
        predict_stream(Predictor(fitted.model), FakeEncoder("other"), iter(()), cache)
