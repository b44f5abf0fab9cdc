"""`train`: from a recipe to a run directory. It wires parts together and trains nothing itself.

recipe.json     every setting, defaults included
run.json        versions, seed, fingerprint of the data, skipped images
curves.csv      a row per step and per evaluation; curves.png and tensorboard/ show the same
checkpoints/    last.ckpt to resume, best.ckpt to export
doctor.log      what the doctor found, in plain words
result.json     the best dev figures, findings, wall time
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from miniclip.atomic import replacing
from miniclip.cpus import usable_cpus
from miniclip.datasets.captions import CaptionSet
from miniclip.errors import TrainingError
from miniclip.tokenizer import Tokenizer
from miniclip.train.build import build_model
from miniclip.train.checkpoints import has_last, load_best, load_last
from miniclip.train.config import differing_keys, read_recipe, recipe_from_dict, recipe_to_json
from miniclip.train.data.batches import Batches
from miniclip.train.data.image_rows import ImageRows
from miniclip.train.data.plan import Plan
from miniclip.train.data.sources import data_fingerprint, image_rows, measure_features, read_data
from miniclip.train.evaluation import DevSet
from miniclip.train.keeper import SCORE, Keeper
from miniclip.train.logs import STEP, CurvesLogger, Row, read_curves, tensorboard
from miniclip.train.memory import keep_freed_memory
from miniclip.train.model import TwoTower
from miniclip.train.module import Contrastive
from miniclip.train.names.class_names import class_name_task
from miniclip.train.processes import World, run_processes, was_restarted, world_from_outside
from miniclip.train.recipe import Recipe, Views

RECIPE_FILE, FACTS_FILE, RESULT_FILE = "recipe.json", "run.json", "result.json"
_PACKAGES = ("miniclip", "torch", "lightning", "transformers", "numpy", "onnxruntime")
_MEANT = (  # what Lightning and torch remark on themselves or on choices that are meant
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The '\w+' does not have many workers",
    r"Found \d+ module\(s\) in eval mode",  # frozen parts, see `towers.freezing`
    r"`broadcast_buffers` is deprecated",  # what takes its place is too new
)
_log = logging.getLogger("miniclip.train")


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    scores: of the best evaluation, by the names of `curves.csv`; findings: the doctor's, at the
    end; seconds: wall time, that before a resume included.
    """

    run: Path
    steps: int
    best_step: int
    scores: dict[str, float]
    findings: tuple[str, ...]
    stopped_early: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self) | {"run": str(self.run), "findings": list(self.findings)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(
            **content | {"run": Path(content["run"]), "findings": tuple(content["findings"])}
        )

    def __str__(self) -> str:
        """Tell it in a few lines."""
        lines = [
            f"{self.run}: {self.steps} steps in {self.seconds / 60:.1f} minutes"
            + (", stopped early" if self.stopped_early else ""),
            f"best at step {self.best_step}, mean dev recall {100 * self.scores[SCORE]:.2f} %",
        ]
        for name, value in self.scores.items():
            lines.append(f"  {name.removeprefix('dev_').replace('_', ' ')}: {100 * value:.1f} %")
        return "\n".join([*lines, *self.findings])


class Trained(NamedTuple):
    """The best model of a run so far, in eval mode; step and scores are those of its evaluation."""

    model: TwoTower
    recipe: Recipe
    step: int
    scores: dict[str, float]


def train(
    recipe: Path, overrides: Sequence[str], output: Path, *, resume: bool = False
) -> TrainingResult:
    """Train by a recipe into the directory `output`, or go on where a killed run stopped.

    overrides: see `read_recipe`. On a CPU in float32 a resumed run repeats the unbroken one
    exactly. Several processes start again by themselves when one dies. Under torchrun the processes
    are those that it started. ConfigError, DatasetError or TrainingError when it cannot start.
    """
    settings = read_recipe(recipe, overrides)
    machine, outside = settings.machine, world_from_outside()
    if is_first_process():
        begun = (output / RECIPE_FILE).exists()
        _claim(output, settings, resume=resume or (begun and was_restarted()))
        if (output / RESULT_FILE).exists():  # it is written last
            return TrainingResult.from_dict(_read_json(output / RESULT_FILE) | {"run": output})
    work = partial(_train_here, settings, output, outside or World(machine.devices, hosts=1))
    if outside or machine.devices == 1:
        return work()
    return run_processes(work, processes=machine.devices, restarts=machine.restarts)


def _train_here(recipe: Recipe, output: Path, world: World) -> TrainingResult:
    """Train, or go on, as one of the processes of a run."""
    if recipe.train.batch % world.size:
        raise TrainingError(
            f"train.batch {recipe.train.batch} cannot be divided among {world.size} processes; "
            "give a multiple"
        )
    with _quiet_lightning():
        return _Run(recipe, output, world).go()


def is_first_process() -> bool:
    """Whether this process writes and speaks for a run; the others are copies that it started."""
    return bool(rank_zero_only.rank == 0)


def load_trained(run: Path) -> Trained:
    """Load the best model of a run. TrainingError when there is none."""
    recipe = _read_recipe_of(run)
    best = load_best(run)
    model = build_model(recipe)
    try:
        model.load_state_dict(best["model"])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"the checkpoint in {run} is of another model: {error}") from error
    step = int(best["step"])
    evaluated = [row for row in read_curves(run) if row.get(SCORE) and int(row[STEP]) == step]
    scores = _dev_scores(evaluated[0]) if evaluated else {SCORE: float(best["score"])}
    return Trained(model.eval(), recipe, step, scores)


class _Run:
    """All that a run needs, made in order."""

    def __init__(self, recipe: Recipe, output: Path, world: World) -> None:
        self.recipe = recipe
        self.output = output
        self.world = world
        keep_freed_memory()
        share = max(1, usable_cpus() // world.processes)
        torch.set_num_threads(recipe.machine.threads or min(share, torch.get_num_threads()))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every worker
        self.captions, dev = read_data(recipe.data)
        model = build_model(recipe)
        tower = model.text_tower
        tokenizer = Tokenizer.from_file(tower.tokenizer_path, tower.text_spec)
        self.rows = image_rows(self.captions, model, recipe, recipe.views)
        self.dev = DevSet(dev, image_rows(dev, model, recipe, Views()), tokenizer)
        class_names = None
        if recipe.image.standardise or recipe.class_names.weight:
            features = measure_features(model, self.rows, recipe)
            if recipe.image.standardise:
                mean, std = features.mean(axis=0), features.std(axis=0)
                model.standardise_features(torch.from_numpy(mean), torch.from_numpy(std))
            texts = self.captions.texts
            class_names = class_name_task(recipe, features, texts, model, tokenizer)
        self.plan = Plan(
            [len(self.captions.images[image].captions) for image in self.rows.usable],
            batch_size=recipe.train.batch,
            seed=recipe.seed,
            views=recipe.views.count,
        )
        self.tokenizer = tokenizer
        self.module = Contrastive(
            model,
            recipe,
            total=self.plan.steps(recipe.train.passes),
            class_names=class_names,
        )
        if is_first_process():
            # Only now is it a run: a recipe that cannot start leaves its directory free.
            with replacing(output / RECIPE_FILE) as stream:
                stream.write(recipe_to_json(recipe).encode())
            _write_json(output / FACTS_FILE, _facts(recipe, self.captions, dev, self.rows))

    def go(self) -> TrainingResult:
        """Run the steps that are not done yet."""
        module, output = self.module, self.output
        if has_last(output):
            load_last(output, module)
            _log.info("going on after step %d", module.done)
        curves = CurvesLogger(output, first_step=module.done)
        every = self.recipe.evaluate.every or self.plan.steps(1)
        keeper = Keeper(output, curves, self.dev, self.captions, every=every)
        if module.done < module.total and not keeper.is_over(module):
            self._fit(keeper, [curves, tensorboard(output, first_step=module.done)])
        result = _result(output, module, keeper)
        if is_first_process():
            _write_json(output / RESULT_FILE, result.to_dict())
        return result

    def _fit(self, keeper: Keeper, loggers: list[Any]) -> None:
        recipe, watched = self.recipe, sys.stderr.isatty()
        machine = recipe.machine
        bar = [_Bar(console_kwargs={"stderr": True})] if watched else []
        trainer = lightning.Trainer(
            accelerator=machine.accelerator,
            devices=self.world.processes,
            num_nodes=self.world.hosts,
            # No buffer changes in training: batch normalisation stands still.
            strategy=DDPStrategy(broadcast_buffers=False) if self.world.size > 1 else "auto",
            precision=recipe.train.precision,
            max_epochs=1,
            logger=loggers,
            callbacks=[keeper, *bar],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=watched,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            default_root_dir=self.output,
        )
        batches = Batches(
            self.captions,
            self.rows,
            self.plan,
            self.tokenizer,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        module = self.module.train()
        try:
            trainer.fit(module, batches.loader(module.done, module.total, workers=machine.workers))
        except SystemExit as stop:  # how Lightning answers Ctrl-C and SIGTERM
            if isinstance(stop.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from stop
            raise TrainingError(
                f"told to end after step {module.done} of {module.total}; go on with --resume"
            ) from stop


class _Bar(RichProgressBar):  # type: ignore[misc]
    """Lightning's bar without the name of the loggers' folder."""

    def get_metrics(self, *arguments: Any) -> dict[str, Any]:
        """Return what stands beside the bar."""
        metrics: dict[str, Any] = super().get_metrics(*arguments)
        metrics.pop("v_num", None)
        return metrics


def _claim(output: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the directory of a run, or see that it holds this very run."""
    if (output / RECIPE_FILE).exists():
        if not resume:
            raise TrainingError(
                f"{output} already holds a run; go on with --resume, or give another directory"
            )
        changed = differing_keys(recipe, _read_recipe_of(output))
        if changed:
            raise TrainingError(
                f"{output} was begun with another {', '.join(changed)}; resume with the recipe in "
                f"{RECIPE_FILE}, or start a new run"
            )
        return
    if resume:
        raise TrainingError(f"there is no run in {output} to resume; leave --resume out")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"cannot make the run directory {output} ({error.strerror}); choose another"
        ) from error


def _read_recipe_of(run: Path) -> Recipe:
    return recipe_from_dict(_read_json(run / RECIPE_FILE))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path.parent} holds no readable {path.name} ({error}); give the directory of a run"
        ) from error
    return content


def _facts(recipe: Recipe, train: CaptionSet, dev: CaptionSet, rows: ImageRows) -> dict[str, Any]:
    skipped = (*train.skipped, *dev.skipped, *rows.skipped)
    return {
        "seed": recipe.seed,
        "commit": _commit(),
        "data_fingerprint": data_fingerprint(train, dev),
        "images": {"train": len(rows.usable), "dev": len(dev)},
        "captions": {"train": len(train.texts), "dev": len(dev.texts)},
        "skipped": [entry.__dict__ for entry in skipped],
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "threads": torch.get_num_threads(),
    }


def _commit() -> str:
    """Return the commit of the working tree that trains, or nothing outside of one."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:  # no git
        return ""
    return asked.stdout.strip()


def _result(output: Path, module: Contrastive, keeper: Keeper) -> TrainingResult:
    best = keeper.best
    return TrainingResult(
        run=output,
        steps=module.done,
        best_step=int(best[STEP]),
        scores=_dev_scores(best),
        findings=tuple(map(str, keeper.findings)),
        stopped_early=module.done < module.total,
        seconds=round(keeper.seconds, 1),
    )


def _dev_scores(row: Row) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key.startswith("dev_")}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's remarks on choices that are meant."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _MEANT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
