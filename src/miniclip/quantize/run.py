"""Try faster variants of a bundle and keep one: `quantize`.

A variant is kept only if it loses at most the margin of the user's own metric, even at the far end
of the interval, and only if it is faster on this machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar, get_args

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.bundle import (
    IMAGE_FILE,
    PARITY_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    Bundle,
    write_bundle,
)
from miniclip.embed import Progress
from miniclip.encoder import Encoder
from miniclip.errors import ConfigError, ExportError, ImageError
from miniclip.images import decode
from miniclip.metrics import bootstrap_interval
from miniclip.preprocess import preprocess
from miniclip.pull.parity import ProbeVectors, compare, encode_probes, read_parity, write_parity
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.quantize.questions import Answers, Questions
from miniclip.quantize.towers import to_float16, to_int8
from miniclip.quantize.verdict import Trial, Verdict
from miniclip.runtimes import chosen_runtime, open_encoder
from miniclip.tokenizer import Tokenizer
from miniclip.tower_graph import Feeds

Precision = Literal["int8", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Watch = Callable[[str, int], Progress]  # the name of a step and how many images it has -> progress

MIN_COSINE = 0.9  # of any probe; below, something broke, whatever the metric says
MIN_SPEEDUP = 1.05
TURNS = 7
_PACED_PHOTOS, _PACED_TEXTS = 16, 64
_CALIBRATION_PHOTOS, _CALIBRATION_TEXTS = 64, 192
_BATCH = 8
T = TypeVar("T")


def quantize(
    bundle: Bundle,
    out: Path | str,
    questions: Questions,
    *,
    precisions: Sequence[Precision] = PRECISIONS,
    margin: float = 0.01,
    runtime: str | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Verdict:
    """Write the fastest variant of a bundle that is good enough, if there is one.

    questions: the user's data; some of its images and texts also fix the scales of int8. margin:
    the share of right answers, from 0 to 1, that may be lost. runtime, threads: as for
    `open_encoder`; a variant for another runtime than onnxruntime keeps to the ONNX standard.

    ConfigError for a margin that cannot be used, DatasetError when no image can be decoded.
    """
    if not 0 <= margin < 1:
        raise ConfigError(f"margin is {margin}; give a share from 0 up to 1, such as 0.01")
    with TemporaryDirectory(prefix="miniclip-quantize-") as scratch:
        bench = _Bench(
            bundle,
            questions,
            Path(scratch),
            margin=margin,
            runtime=runtime,
            threads=threads,
            watch=watch,
        )
        trials = [trial for precision in precisions for trial in bench.try_precision(precision)]
        kept = [trial for trial in trials if trial.kept]
        best = max(kept, key=lambda trial: trial.speedup or 0.0, default=None)
        return Verdict(
            bundle=bundle.name,
            metric=questions.metric,
            score=float(bench.answers.right.mean()),
            questions=len(bench.answers.right),
            margin=margin,
            size_bytes=bundle.size_bytes,
            trials=tuple(trials),
            written=bench.write(best, Path(out)) if best else None,
        )


def read_precisions(text: str) -> tuple[Precision, ...]:
    """Read names separated by commas; ConfigError for an unknown one."""
    names = [name.strip() for name in text.split(",")]
    known: dict[str, Precision] = {name: name for name in PRECISIONS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no precision {unknown[0]!r} here; choose among {', '.join(PRECISIONS)}")
    return tuple(known[name] for name in dict.fromkeys(names))


class _Bench:
    """The bundle as it is, its answers, and a place for variants."""

    def __init__(
        self,
        bundle: Bundle,
        questions: Questions,
        scratch: Path,
        *,
        margin: float,
        runtime: str | None,
        threads: int | None,
        watch: Watch | None,
    ) -> None:
        self._bundle, self._questions, self._margin = bundle, questions, margin
        self._runtime, self._threads, self._watch = runtime, threads, watch
        self._scratch = scratch
        self._texts = bundle.manifest.text is not None
        self._portable = chosen_runtime(runtime) != "onnxruntime"
        self._variants: dict[str, Bundle] = {}
        self._encoder = self._open(bundle)
        self.answers = self._ask("the bundle as it is", self._encoder)

    def try_precision(self, precision: Precision) -> Iterator[Trial]:
        """Try both towers and, if that loses too much, each one alone."""
        if not self._texts:
            yield self._try({"image": precision})
            return
        both = self._try({"image": precision, "text": precision})
        yield both
        if both.speedup is None:
            yield self._try({"image": precision})
            yield self._try({"text": precision})

    def write(self, trial: Trial, out: Path) -> Path:
        """Write the bundle of a trial, with the record of what was measured on it."""
        variant = self._variants[_key(trial.precision)]
        said = {"quantized": " ".join(str(trial).split())}
        manifest = replace(variant.manifest, provenance={**variant.manifest.provenance, **said})
        named = replace(variant, manifest=manifest)
        encoder = self._open(variant)
        return write_parity(out, named, self._expected, encoder, least=MIN_COSINE).directory

    def _try(self, precision: dict[str, Precision]) -> Trial:
        try:
            variant = self._make(precision)
            encoder = self._open(variant)
            found = encode_probes(encoder, texts=self._texts)
            parity = compare(self._expected, found, least=MIN_COSINE)
        except ExportError as error:
            return Trial(precision, f"refused: {error}")
        answers = self._ask(", ".join(" ".join(pair) for pair in precision.items()), encoder)
        lost = self.answers.right - answers.right
        trial = Trial(
            precision,
            "",
            size_bytes=variant.size_bytes,
            loss=float(lost.mean()),
            interval=bootstrap_interval(lost, answers.image),
            cosine_min=min(parity.image_cosine_min, parity.text_cosine_min or 1.0),
        )
        if trial.interval and trial.interval.high > self._margin:
            return replace(trial, verdict="refused: it may lose more than the margin")
        speedups = self._race(encoder, "images" if "image" in precision else "texts")
        trial = replace(trial, speedup=statistics.median(speedups))
        if not is_faster(speedups):
            return replace(trial, verdict="refused: it is not faster on this machine")
        self._variants[_key(precision)] = variant
        return replace(trial, verdict="good enough, and faster", kept=True)

    def _open(self, bundle: Bundle) -> Encoder:
        return open_encoder(bundle, threads=self._threads, runtime=self._runtime)

    def _ask(self, what: str, encoder: Encoder) -> Answers:
        total = len(self._questions.sources)
        return self._questions.ask(encoder, self._watch(what, total) if self._watch else None)

    @cached_property
    def _expected(self) -> ProbeVectors:
        """What the original model says about the probes or, without a record, what the bundle."""
        return read_parity(self._bundle) or encode_probes(self._encoder, texts=self._texts)

    @cached_property
    def _pixels(self) -> FloatArray:
        """Some of the user's photos, (P, *image shape): the first that can be decoded."""
        pixels: list[FloatArray] = []
        for source in spread(self._questions.sources, _CALIBRATION_PHOTOS):
            with suppress(ImageError):
                pixels.append(preprocess(decode(source), self._bundle.manifest.image))
        return np.stack(pixels)

    def _make(self, precision: dict[str, Precision]) -> Bundle:
        manifest = self._bundle.manifest
        files: dict[str, Path | bytes] = {
            name: self._bundle.path(name) for name in self._bundle.files if name != PARITY_FILE
        }
        for tower, name, feeds in (
            ("image", IMAGE_FILE, self._image_feeds),
            ("text", TEXT_FILE, self._text_feeds),
        ):
            if tower in precision:
                path = self._bundle.path(name)
                files[name] = (
                    to_int8(path, feeds(), portable=self._portable)
                    if precision[tower] == "int8"
                    else to_float16(path)
                )
        changed = replace(
            manifest,
            name=f"{manifest.name}-{next(iter(precision.values()))}",
            weights={**manifest.weights, **precision},
            provenance={**manifest.provenance, "quantized_from": self._bundle.fingerprint},
        )
        return write_bundle(self._scratch / _key(precision), manifest=changed, files=files)

    def _image_feeds(self) -> list[Feeds]:
        """Take the user's photos, and the probes: strangers must not leave the range either."""
        spec = self._bundle.manifest.image
        probes = np.stack([preprocess(photo, spec) for photo in probe_photos()])
        pixels = np.concatenate([self._pixels, probes])
        return [{"pixels": pixels[i : i + _BATCH]} for i in range(0, len(pixels), _BATCH)]

    def _text_feeds(self) -> list[Feeds]:
        spec = self._bundle.manifest.text
        texts = [*PROBE_SENTENCES, *spread(self._questions.sentences, _CALIBRATION_TEXTS)]
        if spec is None:
            return []
        tokenizer = Tokenizer.from_file(self._bundle.path(TOKENIZER_FILE), spec)
        batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
        return [tokenizer(batch)._asdict() for batch in batches]

    def _race(self, encoder: Encoder, with_what: str) -> list[float]:
        """How many times as fast it is as the bundle, in each turn, on the same photos or texts."""
        pixels = self._pixels[:_PACED_PHOTOS]
        texts = spread(self._questions.sentences or PROBE_SENTENCES, _PACED_TEXTS)

        def seconds(runner: Encoder) -> float:
            started = time.perf_counter()
            if with_what == "images":
                runner.encode_pixels(pixels)
            else:
                runner.encode_texts(texts)
            return time.perf_counter() - started

        seconds(encoder), seconds(self._encoder)
        return [seconds(self._encoder) / seconds(encoder) for _ in range(TURNS)]


def _key(precision: Mapping[str, str]) -> str:
    return "-".join(f"{tower}-{name}" for tower, name in precision.items())


def is_faster(speedups: Sequence[float]) -> bool:
    """Whether a variant is faster beyond doubt: in the median, and in all turns but one."""
    return statistics.median(speedups) >= MIN_SPEEDUP and sorted(speedups)[1] > 1


def spread(items: Sequence[T], count: int) -> list[T]:
    """Take at most so many of the items, at even distances."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in places]
