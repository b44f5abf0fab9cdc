"""`miniclip fit`: a classifier from labelled images, with figures that one can rely on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from miniclip.cli import fit_options, options, output

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.datasets.labelled_splits import LabelledSplits
    from miniclip.encoder import Encoder
    from miniclip.probe.fit import Fitted
    from miniclip.probe.fit_settings import FitSettings
    from miniclip.probe.learn import MlpTrainer

_PREFIXES = ("mlp.", "finetune.", "")  # of --set, the empty one for the head


def fit(
    data: fit_options.Data,
    out: fit_options.Output = None,
    head: fit_options.Head = "kernel",
    folds: fit_options.Folds = 5,
    views: fit_options.Views = "plain",
    target_error: fit_options.TargetError = 0.01,
    alpha: fit_options.Alpha = 0.1,
    sets: fit_options.Sets = "lac",
    per_class_sets: fit_options.PerClassSets = False,
    preset: fit_options.Preset = None,
    compare_presets: fit_options.ComparePresets = False,
    compare: fit_options.Compare = None,
    unfreeze: fit_options.Unfreeze = None,
    tower: fit_options.Tower = None,
    overrides: fit_options.Overrides = None,
    group_regex: options.GroupRegex = None,
    group_column: options.GroupColumn = None,
    split_column: options.SplitColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    seed: fit_options.Seed = 0,
    copy_bundle: fit_options.CopyBundle = False,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Fit a classifier and learn how good it is.

    Repeated pictures are found and kept on one side of every split; every figure has an interval;
    the model says which predictions a person should look at. Writes a model directory with a report
    for `miniclip predict`.
    """
    from miniclip.bundle import Bundle
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.probe.fit_settings import FitSettings
    from miniclip.probe.model import refuse_place

    said = _by_prefix(overrides or [], unfreeze)
    settings = FitSettings(
        head=head,
        overrides=(*said[""], *said["mlp."]) if head == "mlp" else said[""],
        preset=preset,
        compare_presets=compare_presets,
        mlp_overrides=() if head == "mlp" else said["mlp."],
        rivals=tuple(compare or ()),
        views=views,
        folds=folds,
        seed=seed,
        target_error=target_error,
        alpha=alpha,
        sets=sets,
        per_class_sets=per_class_sets,
    )
    out = out or Path(f"{data.resolve().stem}-model")
    refuse_place(out)
    columns = {
        "group_regex": group_regex,
        "group_column": group_column,
        "split_column": split_column,
        "image_column": image_column,
        "label_column": label_column,
    }
    job = _Job(
        source=Bundle.resolve(bundle),
        splits=read_labelled_splits(data, **columns),
        settings=settings,
        trainer=mlp_trainer() if compare_presets or "mlp" in (head, *settings.rivals) else None,
        out=out,
        runtime=runtime,
    )
    again = columns | {"bundle": bundle and job.source.name, "unfreeze": unfreeze, "tower": tower}
    command = settings.command(data.resolve().name, _words(again, said["finetune."]))
    if unfreeze is None:
        fitted = job.fit_frozen(command, copy_bundle=copy_bundle)
    else:
        tuning = (f"unfreeze={_blocks(unfreeze)}", *said["finetune."])
        fitted = job.fit_unfrozen(command, tuning, tower)
    _show(fitted, out, strict, json)


@dataclass(frozen=True)
class _Job:
    """What is fitted on what, and where the model goes. command, below: what makes it again."""

    source: Bundle
    splits: LabelledSplits
    settings: FitSettings
    trainer: MlpTrainer | None
    out: Path
    runtime: str | None = None

    def fit_frozen(self, command: str, *, copy_bundle: bool) -> Fitted:
        """Fit on features as they are."""
        from miniclip.index.vector_cache import VectorCache
        from miniclip.probe.fit import fit_classifier
        from miniclip.runtimes import open_encoder

        encoder = open_encoder(self.source, runtime=self.runtime)
        total = len(self.splits) * len(self.settings.view_list)
        with VectorCache.open() as cache, output.progress_bars() as start:
            fitted = fit_classifier(
                encoder,
                self.splits,
                cache,
                self.settings,
                trainer=self.trainer,
                progress=start("embedding", total),
                step=partial(_start_spinner, start),
            )
        return self._write(fitted, command, encoder, self.source if copy_bundle else None)

    def fit_unfrozen(self, command: str, tuning: Sequence[str], tower: str | None) -> Fitted:
        """Tune the encoder too; a killed training goes on from a directory beside the model."""
        output.require_training("Unfreezing the encoder")
        from miniclip.index.vector_cache import VectorCache
        from miniclip.runtimes import open_encoder
        from miniclip.train.finetune.settings import finetune_settings
        from miniclip.train.unfreeze import fit_unfrozen

        work = self.out.with_name(f"{self.out.name}.tuning")
        with VectorCache.open() as cache, output.progress_bars() as start:
            done = fit_unfrozen(
                self.source,
                self.splits,
                cache,
                self.settings,
                finetune_settings(tuning),
                work=work,
                tower=tower,
                trainer=self.trainer,
                progress=start,
            )
        own = done.tuned.bundle
        fitted = self._write(done.fitted, command, open_encoder(own, runtime=self.runtime), own)
        shutil.rmtree(work, ignore_errors=True)
        return fitted

    def _write(
        self, fitted: Fitted, command: str, encoder: Encoder, copied: Bundle | None
    ) -> Fitted:
        """Write the model directory, with its report and perhaps a bundle."""
        from miniclip.probe.model import REPORT_FILE, write_model
        from miniclip.report.classifier import write_fit_report

        fitted = replace(fitted, result=replace(fitted.result, reproduce=command))
        table = fitted.prepared.table
        with TemporaryDirectory() as folder:
            page = Path(folder) / REPORT_FILE
            write_fit_report(
                page,
                fitted.result,
                files=dict(zip(table.names, table.paths, strict=True)),
                encoder=encoder,
                heads=fitted.learnt.heads,
                command=command,
            )
            contents = fitted.contents() | {REPORT_FILE: page.read_bytes()}
        write_model(self.out, contents, copied.directory if copied else None)
        return fitted


def _start_spinner(start: output.StartBar, what: str) -> None:
    start(what, None)


def _show(fitted: Fitted, out: Path, strict: bool, json: bool) -> None:
    from miniclip.probe.summary import summary

    result = fitted.result
    if json:
        output.print_json({"model": str(out), **result.to_dict()})
    else:
        print(summary(result))
        output.note(f"wrote the model to {out}; {out / 'report.html'} shows everything")
    for warning in result.warnings:
        output.warn(warning)
    total = len(fitted.prepared) + len(result.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")


def _words(options_given: Mapping[str, str | None], tuning: Sequence[str]) -> list[str]:
    """Return options as one would type them, those that were given."""
    given = [(name, value) for name, value in options_given.items() if value]
    words = [word for name, value in given for word in ("--" + name.replace("_", "-"), value)]
    return words + [word for text in tuning for word in ("--set", f"finetune.{text}")]


def _by_prefix(overrides: Sequence[str], unfreeze: str | None) -> dict[str, tuple[str, ...]]:
    """Sort settings by what they are for, their prefix taken off; refuse those of no use."""
    from miniclip.errors import ConfigError

    found: dict[str, tuple[str, ...]] = dict.fromkeys(_PREFIXES, ())
    for text in overrides:
        prefix = next(prefix for prefix in _PREFIXES if text.startswith(prefix))
        if prefix == "finetune." and unfreeze is None:
            raise ConfigError(
                f"the setting {text} has no effect without --unfreeze; give a number of blocks, "
                "all, or none with it"
            )
        found[prefix] += (text.removeprefix(prefix),)
    return found


def _blocks(unfreeze: str) -> str:
    """Read --unfreeze as `finetune.unfreeze` has it."""
    if unfreeze.isdecimal() and int(unfreeze):
        return f"last:{int(unfreeze)}"
    if unfreeze not in ("all", "none"):
        raise typer.BadParameter(
            f"--unfreeze {unfreeze!r}: give a number of blocks, all, or none (with "
            "--set finetune.lora_rank=8)"
        )
    return unfreeze


def mlp_trainer() -> MlpTrainer:
    """Return the trainer of MLP heads; MissingExtraError without miniclip[train]."""
    output.require_training("The mlp head")
    from miniclip.train.mlp import train_mlp

    return train_mlp
