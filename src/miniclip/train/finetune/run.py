"""`finetune`: a bundle, labelled images and a fitted head in; a bundle of its own and its head out.

    settings.json   every setting, the seed and what was tuned     last.ckpt    to go on from
    bundle/         the tuned bundle                               head.npz     its linear head
    result.json     curves, the weights that were chosen, seconds; it is written last

It wires parts together and trains nothing itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miniclip.atomic import replacing
from miniclip.bundle import Bundle
from miniclip.cpus import usable_cpus
from miniclip.errors import ConfigError, TrainingError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.probe.heads.linear import LinearHead
from miniclip.probe.results import Curves
from miniclip.train.data.image_rows import PixelRows
from miniclip.train.finetune.export import export_tuned
from miniclip.train.finetune.feed import Feed, LabelledSources
from miniclip.train.finetune.halves import cut
from miniclip.train.finetune.judge import (
    Interpolation,
    Judge,
    Judgement,
    choose_interpolation,
    weights_of,
)
from miniclip.train.finetune.lora import merge_lora
from miniclip.train.finetune.settings import FinetuneSettings, Precision
from miniclip.train.finetune.source import Looks, check_looks, load_looks
from miniclip.train.finetune.student import Student
from miniclip.train.finetune.training import Progress, Training
from miniclip.train.memory import keep_freed_memory
from miniclip.train.recipe import Views

SETTINGS_FILE, CHECKPOINT_FILE, RESULT_FILE = "settings.json", "last.ckpt", "result.json"
BUNDLE_FOLDER, HEAD_FILE = "bundle", "head.npz"
_CHECKED_IMAGES = 8


@dataclass(frozen=True)
class Tuned:
    """What came of a fine-tuning.

    head: on the features of `bundle`. epoch: from 1, the one whose weights were taken. alpha: their
    share in the mean with the frozen ones; judgements: on the validation images, by alpha.
    seconds: of training, that before a resume included.
    """

    bundle: Bundle
    head: LinearHead
    curves: Curves
    epoch: int
    alpha: float
    judgements: Mapping[float, Judgement]
    seconds: float


def finetune(
    bundle: Bundle,
    images: LabelledSources,
    head: LinearHead,
    settings: FinetuneSettings,
    *,
    output: Path,
    seed: int = 0,
    tower: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Tune the image tower of a bundle, or go on where a killed attempt at the same stopped.

    head: fitted on the bundle's features of `images.train` alone, for its share in the mean with
    the tuned weights is judged on `images.validation`. tower: see `load_looks`. name: of the new
    bundle. progress: called with images trained on, up to epochs times `images.visits`.
    The tower of a resumed training ends as that of an unbroken one (CPU, float32).

    TrainingError when the tower is not that of the bundle or `output` holds another fine-tuning;
    ConfigError for settings that do not fit the images; DatasetError, ExportError.
    """
    _check(images, head)
    settings = replace(settings, precision=_precision(settings))
    task = _Task(
        bundle, images, head, settings, output, seed, tower, name or f"{bundle.name}-tuned"
    )
    _claim(output, task.identity())
    if not (output / RESULT_FILE).exists():
        threads = torch.get_num_threads()
        torch.set_num_threads(min(threads, usable_cpus()))
        keep_freed_memory()
        try:
            with torch.random.fork_rng():
                task.run(progress or (lambda _: None))
        finally:
            torch.set_num_threads(threads)
    return _read(output)


@dataclass(frozen=True)
class _Task:
    bundle: Bundle
    images: LabelledSources
    head: LinearHead
    settings: FinetuneSettings
    output: Path
    seed: int
    tower: str | None
    name: str

    def identity(self) -> dict[str, Any]:
        """Return all that decides the result, as JSON holds it."""
        data, arrays = hashlib.sha256(), hashlib.sha256()
        for source, label in zip(self.images.sources, self.images.labels, strict=True):
            data.update(json.dumps([source.name, int(label)]).encode())
        for numbers in (self.images.train, self.images.validation, self.images.groups):
            data.update(np.asarray(numbers, dtype=np.int64).tobytes())
        for array in self.head.arrays().values():
            arrays.update(np.ascontiguousarray(array).tobytes())
        identity = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "bundle": self.bundle.fingerprint,
            "tower": self.tower,
            "name": self.name,
            "images": data.hexdigest(),
            "head": arrays.hexdigest(),
        }
        as_read: dict[str, Any] = json.loads(json.dumps(identity))
        return as_read

    def run(self, progress: Progress) -> None:
        """Train, choose the mean of weights, and write bundle, head and, last, the result."""
        looks = self._looks()
        frozen_weights = {f"tower.{name}": w for name, w in weights_of(looks.tower).items()}
        frozen, live = cut(looks.tower, self.settings, seed=self.seed)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        student = Student(looks.tower, live, self.head, dropout=self.settings.dropout).to(device)
        live.to(device)  # it has buffers of its own
        head_weights = {f"head.{name}": w for name, w in weights_of(student.head).items()}
        feed = Feed(self.images, looks, frozen, self.settings, seed=self.seed, device=device)
        judge = Judge(*feed.plain(self.images.validation), device)
        training = Training(
            student,
            feed,
            judge,
            self.settings,
            images=self.images.visits(self.settings.per_group),
            seed=self.seed,
        )
        course = training.run(self.output / CHECKPOINT_FILE, progress)
        merge_lora(student.tower)
        start = {name: w.to(device) for name, w in (frozen_weights | head_weights).items()}
        with training.precisely():
            chosen = choose_interpolation(student, start, self.settings.alphas, judge)
        export_tuned(
            looks,
            self.bundle,
            self.output / BUNDLE_FOLDER,
            name=self.name,
            provenance=self._provenance(course.best_epoch, chosen),
        )
        with replacing(self.output / HEAD_FILE) as stream:
            np.savez(stream, allow_pickle=False, **student.plain_head().arrays())
        _write_json(
            self.output / RESULT_FILE,
            {
                "curves": asdict(course.curves),
                "epoch": course.best_epoch,
                "alpha": chosen.alpha,
                "judgements": {str(alpha): j for alpha, j in chosen.judgements.items()},
                "seconds": course.seconds,
            },
        )
        (self.output / CHECKPOINT_FILE).unlink(missing_ok=True)

    def _looks(self) -> Looks:
        looks = load_looks(self.bundle, self.tower)
        rows = PixelRows(self.images.sources, looks.tower.image_spec, Views(), self.seed)
        some = rows.plain(self.images.train[:_CHECKED_IMAGES]).rows
        check_looks(looks, OnnxEncoder.open(self.bundle), some)
        return looks

    def _provenance(self, epoch: int, chosen: Interpolation) -> dict[str, str]:
        settings = self.settings
        what = f"LoRA of rank {settings.lora_rank}" if settings.lora_rank else settings.unfreeze
        judged = chosen.judgements[chosen.alpha]
        return {
            "tuned_from": f"{self.bundle.name} {self.bundle.fingerprint[:12]}",
            "tuned": f"{what}, epoch {epoch}, {chosen.alpha:g} of the tuned weights",
            "tuned_on": f"{len(self.images.train)} images of {len(self.images.classes)} classes",
            "tuned_validation": f"loss {judged.loss:.4f}, accuracy {judged.accuracy:.4f}",
        }


def _check(images: LabelledSources, head: LinearHead) -> None:
    features, classes = head.weights.shape
    if classes != len(images.classes):
        raise ConfigError(
            f"the head of {features} features tells {classes} classes apart, but there are "
            f"{len(images.classes)}; fit it on the same labels"
        )
    for what, rows in (("training", images.train), ("validation", images.validation)):
        if len(rows) < 2:
            raise ConfigError(f"there are {len(rows)} {what} images; give at least 2")
    if len(np.intersect1d(images.train, images.validation)):
        raise ConfigError("some images are both trained on and judged by; split them")


def _precision(settings: FinetuneSettings) -> Precision:
    """Choose bf16 where the processor multiplies it; elsewhere it is slower than float32."""
    if settings.precision != "auto":
        return settings.precision
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    multiplies = any(getattr(torch.cpu, name, lambda: False)() for name in questions)
    return "bf16" if torch.cuda.is_available() or multiplies else "float32"


def _claim(output: Path, identity: Mapping[str, Any]) -> None:
    """Make the directory, or see that it holds this very fine-tuning."""
    path = output / SETTINGS_FILE
    if path.exists():
        known = _read_json(path)
        changed = [key for key in identity if identity[key] != known.get(key)]
        if changed:
            raise TrainingError(
                f"{output} holds a fine-tuning with another {', '.join(changed)}; give another "
                "directory, or remove this one"
            )
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"cannot make the directory {output} ({error.strerror}); choose another"
        ) from error
    _write_json(path, identity)


def _read(output: Path) -> Tuned:
    found = _read_json(output / RESULT_FILE)
    with np.load(output / HEAD_FILE, allow_pickle=False) as arrays:
        head = LinearHead.load({}, arrays)
    return Tuned(
        bundle=Bundle.open(output / BUNDLE_FOLDER),
        head=head,
        curves=Curves(*(tuple(column) for column in found["curves"].values())),
        epoch=found["epoch"],
        alpha=found["alpha"],
        judgements={float(a): Judgement(*j) for a, j in found["judgements"].items()},
        seconds=found["seconds"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}); remove {path.parent} and tune again"
        ) from error
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())
