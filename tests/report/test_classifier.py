"""The reports of a classifier: what was found is on the page, the same bytes each time."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.evaluate.classifier import evaluate_classifier
from miniclip.index.vector_cache import VectorCache
from miniclip.metrics import Interval
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import Head, Rows, Scores
from miniclip.probe.intervals import Score
from miniclip.probe.results import Curves
from miniclip.report import charts
from miniclip.report.classifier import (
    percent,
    worst_errors,
    write_evaluation_report,
    write_fit_report,
)
from miniclip.testing import FakeEncoder
from tests.probe.photos import COLOURS, make_photos
from tests.report.test_pages import Page


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 20, spread=90)


@pytest.fixture(scope="module")
def fitted(photos: Path) -> Fitted:
    with VectorCache.open(photos / "cache.sqlite3") as cache:
        settings = FitSettings(folds=3)
        return fit_classifier(FakeEncoder(), read_labelled_splits(photos), cache, settings)


@dataclass(frozen=True)
class Asked:
    """A head that remembers when it was asked."""

    head: Head
    name: int
    log: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.head, name)

    def scores(self, rows: Rows) -> Scores:
        self.log.append(self.name)
        return self.head.scores(rows)


def write(page: Path, fitted: Fitted, heads: Sequence[Any] | None = None) -> Page:
    table = fitted.prepared.table
    files = dict(zip(table.names, table.paths, strict=True))
    write_fit_report(
        page,
        fitted.result,
        files=files,
        encoder=FakeEncoder(),
        heads=heads or fitted.learnt.heads,
        command="miniclip fit",
    )
    return Page(page)


def pictures(page: Page) -> list[str]:
    return [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]


def test_the_report_shows_figures_charts_and_errors(fitted: Fitted, tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", fitted)
    result = fitted.result
    assert percent(result.figures.scores.accuracy) in page.source
    assert result.figures.abstention.promise() in page.source
    assert all(f"said {name}" in page.source for name in COLOURS)
    assert page.source.count("what the answer hangs on") == 3  # in the smallest of fits
    for error in worst_errors(result.held_out):
        assert f"<figcaption>{error.name}</figcaption>" in page.source
    assert sum(one.startswith("data:image/png") for one in pictures(page)) == 2
    assert all(one.startswith("data:image/") for one in pictures(page))
    assert "<script" not in page.source
    assert "http" not in page.source
    again = write(tmp_path / "again.html", fitted)
    assert again.source == page.source


def test_a_map_asks_the_head_that_gave_the_answer(fitted: Fitted, tmp_path: Path) -> None:
    log: list[int] = []
    heads = [Asked(head, fold, log) for fold, head in enumerate(fitted.learnt.heads)]
    page = write(tmp_path / "report.html", fitted, heads)
    worst = worst_errors(fitted.result.held_out)[:3]
    assert list(dict.fromkeys(log)) == list(dict.fromkeys(image.fold for image in worst))
    assert all(f"made that model say {image.predicted}" in page.source for image in worst)


def test_what_is_listed_in_part_says_of_how_many(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write(tmp_path / "all.html", fitted)
    wrong = sum(not image.correct for image in fitted.result.held_out)
    assert f"All {wrong} shown" in page.source
    monkeypatch.setattr("miniclip.report.classifier.WORST", 2)
    assert f"2 of {wrong} shown" in write(tmp_path / "some.html", fitted).source


def test_settings_that_say_nothing_are_left_out(fitted: Fitted, tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", fitted)
    shown = page.source.split("To do it again")[1]
    assert "<td>0</td>" in shown  # the seed
    assert not any(f"<td>{nothing}</td>" in shown for nothing in ("None", "()", "False"))


def test_without_matplotlib_the_report_says_how_to_get_the_charts(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "can_draw", lambda: False)
    page = write(tmp_path / "report.html", fitted)
    assert "miniclip[report]" in page.source
    assert not any(one.startswith("data:image/png") for one in pictures(page))
    assert percent(fitted.result.figures.scores.accuracy) in page.source


def test_images_that_are_gone_and_hostile_names_do_no_harm(fitted: Fitted, tmp_path: Path) -> None:
    held_out = list(fitted.result.held_out)
    nearest = dict(fitted.result.nearest)
    for place, image in enumerate(held_out):
        if not image.correct:
            hostile = replace(image, name="<script>alert(1)</script>")
            held_out[place] = hostile
            nearest[hostile.name] = nearest[image.name]
            break
    result = replace(fitted.result, held_out=tuple(held_out), nearest=nearest)
    page = tmp_path / "report.html"
    write_fit_report(
        page, result, files={}, encoder=FakeEncoder(), heads=(), command="miniclip fit"
    )
    assert "<script" not in Page(page).source


def test_new_images_have_a_report_of_their_own(fitted: Fitted, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", 12, seed=5, spread=90)
    splits = read_labelled_splits(new)
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        result = evaluate_classifier(fitted.model, FakeEncoder(), splits, cache)
    files = {source.name: source.path for source in splits.labelled.sources if source.path}
    write_evaluation_report(tmp_path / "new.html", result, files=files, command="miniclip evaluate")
    page = Page(tmp_path / "new.html")
    assert result.drift.verdict in page.source
    assert percent(result.figures.scores.accuracy) in page.source
    assert "none of the 36 images repeats a training image" in page.source


def test_figures_with_and_without_repeats_stand_side_by_side(
    fitted: Fitted, photos: Path, tmp_path: Path
) -> None:
    new = make_photos(tmp_path / "new", 12, seed=5, spread=90)
    shutil.copy(photos / "sea" / "sea000.png", new / "sea" / "copy.png")
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        splits = read_labelled_splits(new)
        result = evaluate_classifier(fitted.model, FakeEncoder(), splits, cache)
    write_evaluation_report(tmp_path / "new.html", result, files={}, command="miniclip evaluate")
    page = Page(tmp_path / "new.html")
    assert "1 of 37 images are repeats of training images" in page.source
    assert result.with_repeats
    assert "without the repeats" in page.source
    assert percent(result.with_repeats.scores.macro_f1) in page.source
    assert percent(result.figures.scores.macro_f1) in page.source


def test_curves_of_several_runs_are_one_picture() -> None:
    curves = Curves((1.0, 0.5), (1.0, 0.8), (0.5, 0.9), (0.5, 0.7))
    uri = charts.learning_curves({"baseline": curves, "robust": curves})
    assert uri
    png = Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert png.format == "PNG"
    assert uri == charts.learning_curves({"baseline": curves, "robust": curves})


def test_shares_read_as_percent() -> None:
    assert percent(Score(0.5, Interval(0.25, 0.75))) == "50.0 % [25.0, 75.0]"
    assert percent(0.123) == "12.3 %"
    assert percent(None) == "–"
