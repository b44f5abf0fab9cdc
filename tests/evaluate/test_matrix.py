"""The matrix: what it runs, what it keeps, what it does about a broken cell, and who is better."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniclip.datasets.captions import read_captions
from miniclip.datasets.folders import read_labelled
from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ConfigError
from miniclip.evaluate.matrix import MatrixResult, run_matrix
from miniclip.evaluate.matrix_config import BundleEntry, MatrixConfig, read_matrix
from miniclip.evaluate.matrix_tasks import Hits, Outcome, Scores, TaskResult
from miniclip.evaluate.paired import compare_bundles
from miniclip.evaluate.retrieval import evaluate_retrieval
from miniclip.evaluate.zeroshot import evaluate_zeroshot
from miniclip.index.vector_cache import VectorCache
from miniclip.metrics import Interval
from miniclip.probe.comparison import holm
from miniclip.probe.intervals import Score
from miniclip.testing import COLOURS, FakeEncoder, picture

CONFIG = """
resamples = 20

[[bundles]]
name = "one"

[[bundles]]
name = "two"
bundle = "other"

[[data]]
name = "walls"
captions = "captions.csv"

[[data]]
name = "colours"
labelled = "colours"

[[data]]
name = "people"
captions = "tokens.txt"
judgements = "ExpertAnnotations.txt"

[zeroshot]
templates = ["a {} thing"]

[fewshot]
shots = [1, 50]
draws = 2
"""
CELLS = [
    f"{data} / {task} / {bundle}"
    for data, tasks in (
        ("walls", ["retrieval"]),
        ("colours", ["zeroshot", "probe", "fewshot"]),
        ("people", ["judgements"]),
    )
    for bundle in ("one", "two")
    for task in tasks
]


@dataclass
class Listening:
    """A watch that remembers."""

    said: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)

    def embedding(self, what: str, total: int) -> Progress:
        self.embedded.append(f"{what}: {total}")
        return lambda _done: None

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def run(self) -> list[str]:
        return [line.partition(": ")[2] for line in self.said if not line.startswith("failed")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make one small data set of each kind, and the configuration."""
    for colour in ("red", "blue", "green"):
        picture(colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "captions.csv").write_text(
        "image,caption\nred.png,a red wall\nblue.png,blue\nblue.png,red\ngreen.png,green grass\n"
    )
    (tmp_path / "tokens.txt").write_text("red.png#0\tred\nblue.png#0\tblue\ngreen.png#0\tgreen\n")
    (tmp_path / "ExpertAnnotations.txt").write_text(
        "red.png\tblue.png#0\t1\t1\t2\nred.png\tgreen.png#0\t1\t2\t1\nblue.png\tred.png#0\t1\t1\t3\n"
    )
    rng = np.random.default_rng(0)
    for label in ("red", "blue"):
        (tmp_path / "colours" / label).mkdir(parents=True)
        for number in range(20):
            size = (24, 24)
            image = picture(label, size)
            for _ in range(6):  # different pictures to the perceptual hash
                spot = picture(str(rng.choice(list(COLOURS))), (9, 9))
                image.paste(spot, tuple(rng.integers(0, 15, size=2).tolist()))
            image.save(tmp_path / "colours" / label / f"{number}.png")
    (tmp_path / "matrix.toml").write_text(CONFIG)
    return tmp_path


def open_fake(entry: BundleEntry) -> Encoder:
    return FakeEncoder(name=entry.name)


def run(
    folder: Path,
    watch: Listening | None = None,
    config: MatrixConfig | None = None,
    open_bundle: Callable[[BundleEntry], Encoder] = open_fake,
) -> MatrixResult:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    with VectorCache.open() as cache:
        return run_matrix(
            config or read_matrix(folder / "matrix.toml"),
            cache,
            open_bundle,
            folder=folder,
            out=out,
            watch=watch or Listening(),
        )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks return at once: what is run, and when, is the question."""

    def told(task: str, encoder: Encoder, *_rest: Any) -> TaskResult:
        figures = {
            "figure": Score(0.5, Interval(0.25, 1.0)),
            "none": Score(nan, Interval(nan, nan)),
        }
        outcomes: dict[str, Outcome] = {"figure": Hits("items", (0, 1), (1, 2))}
        if task == "judgements":
            outcomes = {"figure": Scores("items", (0.1, 0.2), (1.0, 2.0), (0, 1), "c")}
        return TaskResult(figures, outcomes, f"{task} of {encoder.name}", {"c": 1.0})

    monkeypatch.setattr("miniclip.evaluate.matrix.run_task", told)


def lines(folder: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, (folder / "out" / "results.jsonl").read_text().splitlines()))


def test_every_cell_says_what_the_verbs_of_its_task_say(folder: Path) -> None:
    result = run(folder)
    assert result.failed == ()
    assert [cell.name for cell in result.cells] == CELLS
    assert [f"{one['data']} / {one['task']} / {one['bundle']}" for one in lines(folder)] == CELLS
    figures = {cell.name: cell.result.figures for cell in result.cells if cell.result}
    retrieval = evaluate_retrieval(FakeEncoder(), read_captions(folder / "captions.csv"))
    for name, value in retrieval.text_to_image.scores.items():
        assert figures["walls / retrieval / one"][f"text_to_image_{name}"].value == value
    zeroshot = evaluate_zeroshot(
        FakeEncoder(), read_labelled(folder / "colours"), ["a {} thing"], resamples=20
    )
    assert figures["colours / zeroshot / one"]["top1"].value == zeroshot.top1
    assert figures["colours / zeroshot / one"]["top1"].interval == zeroshot.intervals["top1"]
    assert set(figures["colours / probe / one"]) == {"accuracy", "mean_per_class"}
    assert set(figures["colours / fewshot / one"]) == {"accuracy@1"}
    assert set(figures["people / judgements / one"]) == {
        f"{score}_tau_{variant}" for score in ("clipscore", "refclipscore") for variant in "bc"
    }
    told = result.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [one["path"] for one in told["skipped"]] == ["50 shots"]
    for own in figures.values():
        for name, score in own.items():
            assert score.interval.low <= score.value <= score.interval.high, name
    # Two equal models differ in nothing.
    assert {(one.task, one.figure) for one in result.comparisons} == {
        ("retrieval", "text_to_image_recall@1"),
        ("retrieval", "image_to_text_recall@1"),
        ("zeroshot", "top1"),
        ("probe", "accuracy"),
        ("fewshot", "accuracy@1"),
        ("judgements", "clipscore_tau_c"),
        ("judgements", "refclipscore_tau_c"),
    }
    assert {one.verdict for one in result.comparisons} == {"no difference"}
    assert {one.difference for one in result.comparisons} == {0.0}


def test_tar_shards_and_split_folders_are_data_sets_too(folder: Path) -> None:
    with tarfile.open(folder / "dev-0.tar", "w") as shard:
        for colour in ("red", "blue"):
            (folder / f"{colour}.txt").write_text(f"a {colour} wall")
            shard.add(folder / f"{colour}.png", f"{colour}.png")
            shard.add(folder / f"{colour}.txt", f"{colour}.txt")
    for part in ("train", "test"):
        shutil.copytree(folder / "colours", folder / "parts" / part)
    (folder / "matrix.toml").write_text(
        'resamples = 9\nbundles = [{name = "one"}]\n[[data]]\nname = "tar"\n'
        'captions = "dev-{0..0}.tar"\n[[data]]\nname = "parts"\nlabelled = "parts"\n'
        'labels = "names.txt"\ntasks = ["zeroshot"]\n'
    )
    keys = sorted(path.name for path in (folder / "colours").iterdir())
    (folder / "names.txt").write_text("".join(f"{key}=a {key} wall\n" for key in keys))
    result = run(folder)
    assert result.failed == ()
    tar, parts = (cell.result for cell in result.cells if cell.result)
    assert tar.figures["text_to_image_recall@1"].value == 1.0
    assert parts.protocol.startswith("40 images, 2 classes")  # of the test part alone
    assert "a red wall" in str(parts)


@pytest.mark.usefixtures("quick")
def test_finished_cells_are_not_run_again(folder: Path) -> None:
    first = run(folder)
    watch = Listening()
    second = run(folder, watch)
    assert (watch.run, watch.embedded) == ([], [])
    assert second.kept == len(CELLS)
    assert second.to_dict() == first.to_dict() | {"kept": len(CELLS)}


@pytest.mark.usefixtures("quick")
def test_after_a_kill_only_the_rest_is_run(folder: Path) -> None:
    whole = run(folder)
    (folder / "out" / "results.jsonl").unlink()
    begun: list[str] = []

    class KilledAtTheFourth(Listening):
        def say(self, message: str) -> None:
            begun.append(message)
            if len(begun) == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, KilledAtTheFourth())
    assert len(lines(folder)) == 3
    with (folder / "out" / "results.jsonl").open("a") as stream:
        stream.write('{"data": "walls", "bun')  # torn

    watch = Listening()
    result = run(folder, watch)
    assert watch.run == CELLS[3:]
    assert result.kept == 3
    assert result.to_dict() == whole.to_dict() | {"kept": 3}


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("draws = 2", "draws = 3", ["colours / fewshot / one", "colours / fewshot / two"]),
        ("resamples = 20", "resamples = 21", CELLS),
        ('name = "two"', 'name = "three"', []),
    ],
    ids=["one task", "all tasks", "another name for a bundle"],
)
@pytest.mark.usefixtures("quick")
def test_what_decides_a_figure_is_in_the_key(
    folder: Path, old: str, new: str, again: list[str]
) -> None:
    def by_directory(entry: BundleEntry) -> Encoder:
        return FakeEncoder(name=entry.bundle or "default")

    run(folder, open_bundle=by_directory)
    (folder / "matrix.toml").write_text(CONFIG.replace(old, new))
    watch = Listening()
    run(folder, watch, open_bundle=by_directory)
    assert watch.run == again


@pytest.mark.usefixtures("quick")
def test_another_caption_or_picture_is_another_data_set(folder: Path) -> None:
    run(folder)
    (folder / "captions.csv").write_text("image,caption\nred.png,red\nblue.png,blue\n")
    picture("black").save(folder / "colours" / "red" / "0.png")
    watch = Listening()
    run(folder, watch)
    assert {name.split(" / ")[0] for name in watch.run} == {"walls", "colours"}


def test_a_broken_cell_is_named_and_does_not_stop_the_others(folder: Path) -> None:
    def half_there(entry: BundleEntry) -> Encoder:
        if entry.name == "two":
            raise BundleError("no bundle 'other'; name one")
        return FakeEncoder(name=entry.name)

    for photo in (folder / "colours").rglob("*.png"):
        photo.write_bytes(b"no picture")
    (folder / "tokens.txt").write_text("nothing\n")
    watch = Listening()
    result = run(folder, watch, open_bundle=half_there)
    reasons = {cell.name: cell.error for cell in result.cells}
    assert reasons["walls / retrieval / one"] is None
    assert reasons["walls / retrieval / two"] == "no bundle 'other'; name one"
    assert "none of the 40 images" in str(reasons["colours / probe / one"])
    assert "nothing usable" in str(reasons["people / judgements / one"])
    assert len(result.failed) == len(CELLS) - 1
    assert result.to_dict()["failed"] == CELLS[1:]
    assert len([line for line in watch.said if line.startswith("failed: ")]) == len(CELLS) - 1

    watch = Listening()
    run(folder, watch)  # a failed cell is tried again
    assert watch.run == CELLS[1:]
    assert [line["error"] for line in lines(folder)][:2] == [None, None]


@pytest.mark.usefixtures("quick")
def test_a_defect_costs_one_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*_arguments: Any) -> Any:
        raise ZeroDivisionError("by a defect")

    monkeypatch.setattr("miniclip.evaluate.matrix.embed_data", defective)
    (folder / "matrix.toml").write_text(CONFIG)
    result = run(folder)
    assert {cell.error for cell in result.cells} == {"ZeroDivisionError: by a defect"}
    assert [line["error"] for line in lines(folder)] == [cell.error for cell in result.cells]


def test_a_better_model_is_told_from_an_equal_one() -> None:
    rng = np.random.default_rng(3)
    right = rng.random(200) < 0.5
    better = right | (rng.random(200) < 0.4)

    def hits(answers: Any) -> Hits:
        return Hits("same", tuple(map(int, answers)), (1,) * 200)

    asked = {("d", "t", "f"): {"a": hits(right), "b": hits(better), "c": hits(right)}}
    found = {(one.first, one.second): one for one in compare_bundles(asked, seed=0, resamples=9)}
    assert found["a", "b"].verdict == found["b", "c"].verdict == "b is better"
    assert found["a", "c"].verdict == "no difference"
    assert found["a", "b"].difference == pytest.approx(right.mean() - better.mean())
    assert found["a", "b"].p_adjusted == pytest.approx(3 * found["a", "b"].p)

    other = {("d", "t", "f"): {"a": hits(right), "b": Hits("others", (1,), (1,))}}
    assert compare_bundles(other, seed=0, resamples=9) == ()


def test_taus_are_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(1)
    ratings = tuple(rng.integers(1, 5, size=120).astype(float))
    image = tuple(np.repeat(np.arange(40), 3).tolist())

    def scores(noise: float) -> Scores:
        values = np.array(ratings) + noise * np.random.default_rng(2).normal(size=120)
        return Scores("same", tuple(values), ratings, image, "c")

    asked = {("d", "judgements", "f"): {"good": scores(0.5), "poor": scores(6.0)}}
    (found,) = compare_bundles(asked, seed=0, resamples=200)
    assert found.verdict == "good is better"
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.p == pytest.approx(2 / 201)


def test_holm_is_the_step_down_of_the_paper() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, none below the one before.
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (CONFIG.replace("draws = 2", "draw = 2"), r"unknown key fewshot\.draw; did you mean"),
        (CONFIG.replace('labelled = "colours"', ""), "has to say `captions` or `labelled`"),
        (CONFIG.replace('"two"', '"one"'), "2 of bundles are called 'one'"),
        (CONFIG + '[[data]]\nname = "x"\nlabelled = "y"\ntasks = ["retrieval"]', "cannot do"),
        (CONFIG.replace("a {} thing", "a thing"), "exactly one"),
        (CONFIG.replace("[1, 50]", "[0]"), "at least 1"),
        ('data = 3\n[[bundles]]\nname = "x"', "data is 3, but must be a list"),
        ("[[", "is no TOML"),
    ],
)
def test_a_configuration_is_strict(tmp_path: Path, broken: str, message: str) -> None:
    (tmp_path / "matrix.toml").write_text(broken)
    with pytest.raises(ConfigError, match=message):
        read_matrix(tmp_path / "matrix.toml")
