"""From a bundle to a verdict: what is kept, what is refused, and that the reason is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.cli import main
from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, ExportError
from miniclip.images import ImageSource
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.parity import encode_probes
from miniclip.quantize import run as running
from miniclip.quantize.questions import Answers
from miniclip.quantize.run import is_faster, quantize, read_precisions, spread
from tests.quantize.tiny_transformer import build
from tests.tiny_bundle import images_alone


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("transformer") / "bundle")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder per class, noise in each, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for colour in ("red", "blue"):
        (folder / colour).mkdir()
        for number in range(6):
            noise = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / colour / f"{number}.png")
    (folder / "red" / "broken.png").write_text("no picture")
    return folder


@dataclass
class Told:
    """Answers that the test decides on, model by model in the order of asking."""

    folder: Path
    right: list[float]
    sentences: Sequence[str] = ("a red photo", "a blue picture of the square")
    metric: str = "share told"
    asked: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[ImageSource]:
        return [ImageSource.of(path) for path in sorted(self.folder.rglob("*.png"))]

    def ask(self, encoder: Encoder, progress: Progress | None = None) -> Answers:
        share = self.right[min(len(self.asked), len(self.right) - 1)]
        self.asked.append(encoder.name)
        return Answers((np.arange(100) < 100 * share).astype(np.float64), np.arange(100))


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Decide what every race finds; a tiny model is too quick to be timed."""
    found = [2.0] * 7
    monkeypatch.setattr(running._Bench, "_race", lambda *_: found)
    return found


def test_a_good_variant_is_written_and_answers_like_its_source(
    bundle: Bundle, photos: Path, races: list[float], tmp_path: Path
) -> None:
    verdict = quantize(
        bundle, tmp_path / "small", Told(photos, [0.9]), precisions=("int8",), margin=0.01
    )
    (trial,) = verdict.trials
    assert (trial.kept, trial.loss, trial.speedup) == (True, 0.0, 2.0)
    assert verdict.written == tmp_path / "small"
    small = Bundle.open(tmp_path / "small")
    assert small.name == "tiny-transformer-int8"
    assert small.manifest.weights == {"image": "int8", "text": "int8"}
    assert small.manifest.provenance["quantized_from"] == bundle.fingerprint
    assert "2.00 times as many a second" in small.manifest.provenance["quantized"]
    assert small.fingerprint != bundle.fingerprint
    assert small.manifest.parity.image_cosine_min == pytest.approx(trial.cosine_min, abs=0.05)
    one, other = (encode_probes(OnnxEncoder.open(each)) for each in (bundle, small))
    assert ((one.images * other.images).sum(axis=1) > 0.99).all()
    assert one.texts is not None
    assert other.texts is not None
    assert ((one.texts * other.texts).sum(axis=1) > 0.99).all()


def test_what_may_lose_more_than_the_margin_is_refused_tower_by_tower(
    bundle: Bundle, photos: Path, races: list[float], tmp_path: Path
) -> None:
    told = Told(photos, [0.9, 0.89, 0.9, 0.5])  # as it is, both, images alone, texts alone
    verdict = quantize(bundle, tmp_path / "small", told, precisions=("int8",), margin=0.01)
    assert [dict(trial.precision) for trial in verdict.trials] == [
        {"image": "int8", "text": "int8"},
        {"image": "int8"},
        {"text": "int8"},
    ]
    both = verdict.trials[0]
    assert both.loss == pytest.approx(0.01)
    assert both.interval is not None
    assert both.interval.high > 0.01  # within the margin on average, and not for sure
    assert [trial.kept for trial in verdict.trials] == [False, True, False]
    assert "more than the margin" in both.verdict
    assert Bundle.open(tmp_path / "small").manifest.weights == {"image": "int8"}


def test_nothing_is_written_when_nothing_is_faster(
    bundle: Bundle, photos: Path, races: list[float], tmp_path: Path
) -> None:
    races[:] = [1.3, 1.3, 1.3, 1.3, 1.3, 0.9, 0.9]
    verdict = quantize(bundle, tmp_path / "small", Told(photos, [0.9]))
    assert [trial.verdict for trial in verdict.trials] == [
        "refused: it is not faster on this machine"
    ] * 2
    assert verdict.written is None
    assert not (tmp_path / "small").exists()
    assert "wrote nothing" in str(verdict)


def test_a_variant_that_broke_is_refused_before_anybody_is_asked(
    bundle: Bundle,
    photos: Path,
    races: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upside_down(*_arguments: object, **_options: object) -> bytes:
        raise ExportError("the tower stands on its head")

    monkeypatch.setattr(running, "to_int8", upside_down)
    told = Told(photos, [0.9])
    verdict = quantize(bundle, tmp_path / "small", told, precisions=("int8",))
    assert len(told.asked) == 1
    assert {trial.verdict for trial in verdict.trials} == {"refused: the tower stands on its head"}


def test_the_fastest_of_several_wins(
    bundle: Bundle, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([[1.5] * 7, [3.0] * 7])
    monkeypatch.setattr(running._Bench, "_race", lambda *_: next(found))
    quantize(bundle, tmp_path / "small", Told(photos, [0.9]), precisions=("int8", "float16"))
    assert Bundle.open(tmp_path / "small").manifest.weights["image"] == "float16"


def test_a_real_race_is_about_photos_or_texts(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    verdict = quantize(bundle, tmp_path / "small", Told(photos, [0.9]), precisions=("int8",))
    assert all(trial.speedup is not None and trial.speedup > 0 for trial in verdict.trials[:1])


def test_a_model_of_images_alone_has_one_tower_to_try(
    photos: Path, races: list[float], tmp_path: Path
) -> None:
    alone = images_alone(tmp_path / "alone")
    verdict = quantize(alone, tmp_path / "small", Told(photos, [0.9]), precisions=("float16",))
    assert [dict(trial.precision) for trial in verdict.trials] == [{"image": "float16"}]
    assert Bundle.open(tmp_path / "small").manifest.text is None


def test_unusable_settings_are_refused_by_value(
    bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"margin is 1\.5"):
        quantize(bundle, tmp_path / "small", Told(photos, [0.9]), margin=1.5)
    with pytest.raises(ConfigError, match="no precision 'int4' here; choose among int8, float16"):
        read_precisions("int8, int4")
    assert read_precisions(" int8,float16,int8") == ("int8", "float16")


@pytest.mark.parametrize(
    ("speedups", "expected"),
    [
        ([1.2] * 7, True),
        ([1.2] * 6 + [0.8], True),  # one turn may be disturbed
        ([1.2] * 5 + [0.8, 0.9], False),
        ([1.02] * 7, False),  # not worth another model
    ],
)
def test_faster_means_in_the_median_and_nearly_always(
    speedups: list[float], expected: bool
) -> None:
    assert is_faster(speedups) is expected


def test_items_are_taken_from_everywhere() -> None:
    assert spread(range(100), 5) == [0, 24, 49, 74, 99]
    assert spread("abc", 5) == ["a", "b", "c"]


def test_the_verb_prints_its_verdict(
    bundle: Bundle,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["quantize", str(bundle.directory), "--data", str(photos), "-o", str(tmp_path / "out")]
    words += ["--margin", "0.99", "--precision", "int8", "--json"]
    monkeypatch.setattr(sys, "argv", ["miniclip", *words])
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == "zero-shot accuracy"
    assert told["questions"] == 12
    assert 0 <= told["score"] <= 1
    assert set(told["trials"][0]) == {
        "precision", "verdict", "kept", "size_bytes", "loss", "interval", "cosine_min", "speedup",
    }  # fmt: skip
    assert (told["written"] is not None) == (tmp_path / "out").exists()
