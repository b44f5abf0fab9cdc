"""The loop: epochs of AdamW on a cosine, judged after each, saved after each, stopped in time.

A training that was killed goes on after its last whole epoch, and in float32 on a CPU ends with the
weights of an unbroken one. It makes no data and exports nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.atomic import replacing
from miniclip.errors import TrainingError
from miniclip.probe.results import Curves
from miniclip.train.averaging import WeightAverage
from miniclip.train.finetune.feed import Batch, Feed
from miniclip.train.finetune.judge import Judge, Judgement
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.finetune.student import Student

Progress = Callable[[int], None]  # called with the number of images trained on, all epochs counted
_EPOCH_SEEDS = 1_000_003  # a prime, so that epochs of neighbouring seeds do not share their noise
_log = logging.getLogger("miniclip.finetune")


@dataclass
class Course:
    """How a training went so far.

    epochs: of each, training loss, validation loss, training accuracy, validation accuracy.
    best: weights by name, of epoch number best_epoch, counted from 1.
    """

    epochs: list[tuple[float, float, float, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_cost: float = math.inf
    seconds: float = 0.0

    @property
    def curves(self) -> Curves:
        """The same, by column."""
        return Curves(*map(tuple, zip(*self.epochs, strict=True)))

    def add(
        self, trained: tuple[float, float], judged: Judgement, weights: dict[str, Tensor]
    ) -> None:
        """Note an epoch; its weights are kept when none had a lower validation cost."""
        self.epochs.append((trained[0], judged.loss, trained[1], judged.accuracy))
        if judged.cost < self.best_cost or not self.best:
            self.best, self.best_epoch = weights, len(self.epochs)
            self.best_cost = judged.cost

    def is_over(self, settings: FinetuneSettings) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        done = len(self.epochs)
        waited = done - self.best_epoch
        return done >= settings.epochs or bool(settings.patience and waited >= settings.patience)


class Training:
    """One student on its way."""

    def __init__(
        self,
        student: Student,
        feed: Feed,
        judge: Judge,
        settings: FinetuneSettings,
        *,
        images: int,
        seed: int,
    ) -> None:
        """images: how many an epoch has."""
        self._student = student
        self._feed = feed
        self._judge = judge
        self._settings = settings
        self._images = images
        self._seed = seed
        self._optimiser = torch.optim.AdamW(student.parameter_groups(settings))
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        self._average = WeightAverage(student, decay=settings.average) if settings.average else None
        self.course = Course()

    def run(self, checkpoint: Path, progress: Progress) -> Course:
        """Train to the end, from `checkpoint` on if there is one, and leave the best weights."""
        if checkpoint.exists():
            self._load(checkpoint)
        while not self.course.is_over(self._settings):
            started, epoch = time.perf_counter(), len(self.course.epochs)
            row = self._epoch(epoch, progress)
            with self._average.swapped() if self._average else nullcontext():
                with self.precisely():
                    judged = self._judge(self._student)
                self.course.add(row, judged, self._learnt())
            self.course.seconds += time.perf_counter() - started
            self._save(checkpoint)
            _log.info(
                "epoch %d of %d: loss %.3f, validation loss %.3f (calibrated %.3f), accuracy %.4f",
                *(epoch + 1, self._settings.epochs, row[0], *judged),
            )
        self._set(self.course.best)
        return self.course

    def precisely(self) -> AbstractContextManager[object]:
        """Within, the student computes as precisely as the settings say."""
        bf16 = self._settings.precision == "bf16"
        return torch.autocast(self._student.mean.device.type, torch.bfloat16, enabled=bf16)

    def _epoch(self, epoch: int, progress: Progress) -> tuple[float, float]:
        """Visit every image once; return the mean loss and accuracy on the way.

        Dropout and mixup draw from torch's global generator, which belongs to the caller.
        """
        student = self._student.train()
        steps = self._steps_an_epoch
        loss_sum, hits, seen = 0.0, 0, 0
        torch.manual_seed(self._seed * _EPOCH_SEEDS + epoch)
        for number, batch in enumerate(self._feed.training(epoch)):
            self._set_rates(epoch * steps + number, self._settings.epochs * steps)
            loss, right = self._step(student, batch)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} in epoch {epoch + 1}; lower finetune.rate "
                    f"(now {self._settings.rate:g}), or set finetune.precision to float32"
                )
            loss_sum, hits = loss_sum + loss * len(batch.labels), hits + right
            seen += len(batch.labels)
            progress(epoch * self._images + seen)
        return loss_sum / seen, hits / seen

    def _step(self, student: Student, batch: Batch) -> tuple[float, int]:
        rows, labels = batch.rows.float(), batch.labels
        share, partner = 1.0, torch.arange(len(labels), device=labels.device)
        if self._settings.mixup:
            even = torch.tensor(self._settings.mixup)
            share = float(torch.distributions.Beta(even, even).sample())
            partner = torch.randperm(len(labels)).to(labels.device)
            rows = torch.lerp(rows[partner], rows, share)
        with self.precisely():
            logits = student(rows).float()
        smoothing = self._settings.label_smoothing
        loss = share * F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if share < 1:
            others = F.cross_entropy(logits, labels[partner], label_smoothing=smoothing)
            loss = loss + (1 - share) * others
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._settings.clip:
            torch.nn.utils.clip_grad_norm_(student.parameters(), self._settings.clip)
        self._optimiser.step()
        if self._average:
            self._average.update()
        return float(loss.detach()), int((logits.argmax(1) == labels).sum())

    def _set_rates(self, step: int, total: int) -> None:
        """Warm up linearly, then follow a cosine to 0."""
        warm_up = max(1.0, self._settings.warm_up * total)
        rising = (step + 1) / warm_up
        falling = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / total))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * min(rising, falling)

    @property
    def _steps_an_epoch(self) -> int:
        return max(1, -(-self._images // self._settings.batch_size))

    def _learnt(self) -> dict[str, Tensor]:
        """Copy the weights that learn."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self._student.named_parameters()
            if parameter.requires_grad
        }

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        self._student.load_state_dict(dict(weights), strict=False)

    def _save(self, path: Path) -> None:
        content = {
            "course": vars(self.course),
            "weights": self._learnt(),
            "optimiser": self._optimiser.state_dict(),
            "average": self._average.state_dict() if self._average else None,
        }
        with replacing(path) as stream:
            torch.save(content, stream)

    def _load(self, path: Path) -> None:
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.course = Course(**content["course"])
            self._set(content["weights"])
            self._optimiser.load_state_dict(content["optimiser"])
            if self._average:
                self._average.load_state_dict(content["average"])
        except Exception as error:  # unpickling and zip reading raise a dozen types
            raise TrainingError(
                f"the checkpoint {path} cannot be read ({error}); remove it to start again"
            ) from error
