"""What happens beside the steps: evaluating, saving, listening to the doctor, stopping early.

A Lightning callback. Only the first process looks at the dev split and writes; the others are told
what it decided.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning

from miniclip.datasets.captions import CaptionSet
from miniclip.train.checkpoints import save_best, save_last
from miniclip.train.curves import draw_curves
from miniclip.train.doctor import Finding, RunNumbers, diagnose
from miniclip.train.evaluation import DevResult, DevSet
from miniclip.train.logs import CurvesLogger, Row, column
from miniclip.train.module import Contrastive

DOCTOR_FILE = "doctor.log"
SCORE = "dev_recall_mean"
_GRADIENT = "gradient_"
_log = logging.getLogger("miniclip.train")


class Keeper(lightning.Callback):  # type: ignore[misc]
    """Keeps a run: its evaluations, checkpoints, findings and the decision to stop.

    every: steps between evaluations; one more comes after the last step.
    """

    def __init__(
        self, run: Path, curves: CurvesLogger, dev: DevSet, captions: CaptionSet, *, every: int
    ) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.best: Row = {}
        self._run = run
        self._curves = curves
        self._dev = dev
        self._captions = captions
        self._every = every
        self._began = time.monotonic()
        self._seconds_before = max(column(curves.rows, "seconds"), default=0.0)
        self._choose_best()

    @property
    def evaluations(self) -> list[Row]:
        """The rows of `curves.csv` that hold dev scores."""
        return [row for row in self._curves.rows if row.get(SCORE)]

    @property
    def seconds(self) -> float:
        """Wall time of the run, that before a resume included."""
        return self._seconds_before + time.monotonic() - self._began

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Contrastive, *_: Any) -> None:
        """Log the step; evaluate and save when it is time."""
        last = module.done >= module.total
        self._log(trainer, module.metrics | {"seconds": self.seconds}, module.done)
        if last or module.done % self._every == 0:
            if trainer.is_global_zero:
                self._evaluate(trainer, module)
            self._choose_best()
            stop, self.best, self.findings = trainer.strategy.broadcast(
                (self.is_over(module), self.best, self.findings)
            )
            trainer.should_stop = trainer.should_stop or stop
        elif module.done % module.recipe.train.checkpoint_every == 0 and trainer.is_global_zero:
            save_last(self._run, module)

    def _choose_best(self) -> None:
        """Find the evaluation with the best mean recall, the first of equals."""
        self.best = max(self.evaluations, key=lambda row: float(row[SCORE]), default={})

    def _evaluate(self, trainer: lightning.Trainer, module: Contrastive) -> None:
        before = float(self.best.get(SCORE, -1))
        with module.average.swapped() if module.average else nullcontext():
            with trainer.precision_plugin.forward_context():
                result = self._dev.evaluate(module.model)
            score = result.scores[SCORE]
            if score > before:
                save_best(self._run, module.model.state_dict(), step=module.done, score=score)
        self._log(trainer, result.scores, module.done)
        self._consult(module, result)
        save_last(self._run, module)
        draw_curves(self._run, self._curves.rows)
        _log.info("step %d of %d: %s", module.done, module.total, _in_words(result.scores))

    def _consult(self, module: Contrastive, result: DevResult) -> None:
        """Ask the doctor, and write down what is new."""
        rows = self._curves.rows
        parts = {key for row in rows for key in row if key.startswith(_GRADIENT)}
        loss = "loss_captions" if column(rows, "loss_captions") else "loss"
        findings = diagnose(
            RunNumbers(
                batch_size=module.recipe.train.batch,
                loss=module.recipe.loss.name,
                losses=column(rows, loss),
                logit_scales=column(rows, "logit_scale"),
                gradient_norms={
                    "the " + part.removeprefix(_GRADIENT).replace("_", " "): column(rows, part)
                    for part in sorted(parts)
                },
                epoch_losses=_losses_between(rows, loss),
                dev_recalls=column(rows, SCORE),
                image=result.image,
                text=result.text,
                image_of_text=result.image_of_text.tolist(),
                captions=self._captions.texts,
                caption_groups=self._captions.image_of_text.tolist(),
            )
        )
        with (self._run / DOCTOR_FILE).open("a+", encoding="utf-8") as stream:
            stream.seek(0)
            known = stream.read()  # from before a resume too
            for finding in findings:
                if finding.title not in known:
                    stream.write(f"step {module.done}: {finding}\n")
                    _log.warning("%s", finding)
        self.findings = findings

    def is_over(self, module: Contrastive) -> bool:
        """Whether the last evaluations, as many as the patience, brought no new best."""
        patience = module.recipe.evaluate.patience
        rows = self.evaluations
        if not patience or not rows:
            return False
        return len(rows) - 1 - rows.index(self.best) >= patience

    def _log(self, trainer: lightning.Trainer, metrics: Mapping[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(dict(metrics), step)


def _losses_between(rows: list[Row], loss: str) -> list[float]:
    """Mean training loss before each evaluation, since the one before."""
    means, since = [], []
    for row in rows:
        if row.get(loss):
            since.append(float(row[loss]))
        if row.get(SCORE):
            means.append(sum(since) / max(1, len(since)))
            since = []
    return means


def _in_words(scores: Mapping[str, float]) -> str:
    """Say "text to image 25.3/54.2/68.1, image to text 32.1/60.9/73.2"."""
    return ", ".join(
        f"{way.replace('_', ' ')} "
        + "/".join(f"{100 * scores[f'dev_{way}_recall@{k}']:.1f}" for k in (1, 5, 10))
        for way in ("text_to_image", "image_to_text")
    )
