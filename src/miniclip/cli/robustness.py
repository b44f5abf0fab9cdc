"""`miniclip robustness`: what a model bears, in known corruptions of known severity."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import options, output

if TYPE_CHECKING:
    from miniclip.encoder import Encoder
    from miniclip.evaluate.robustness.results import RobustnessResult
    from miniclip.evaluate.robustness.subjects import Caches, Draw, Subjects
    from miniclip.probe.model import ClassifierModel

CACHE_FILE = "corrupted.sqlite3"

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder per class or a CSV with path and label; with --captions a folder of images.",
        show_default=False,
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A fitted model, once or more. Without it: the names of the classes, untrained.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="MODEL",
        help="The model whose errors are 1 for mCE. Default: the first of several.",
        show_default=False,
    ),
]
CaptionsFile = Annotated[
    Path | None,
    typer.Option(
        "--captions", metavar="FILE", help="Captions: measure retrieval.", show_default=False
    ),
]
Split = Annotated[
    Path | None,
    typer.Option("--split", metavar="FILE", help="Of captions: only the images named here."),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="FILE", help="What a class is called: folder<TAB>name, one a line."
    ),
]
Corruptions = Annotated[
    str,
    typer.Option(
        "--corruptions",
        metavar="NAMES",
        help="Names or families, with commas: standard, everyday, all, noise, blur, weather, "
        "digital, gaussian_noise, ...",
    ),
]
Severities = Annotated[
    str, typer.Option("--severities", metavar="N,N", help="Of 1 to 5, with commas.")
]
Images = Annotated[
    int,
    typer.Option(
        "--images", min=0, metavar="N", help="How many, drawn class by class; 0 for all of them."
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", "-o", metavar="FILE", help="Also write a report page.")
]
SkipUnknown = Annotated[
    bool,
    typer.Option("--skip-unknown", help="Skip images of classes that the models do not know."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the images drawn, and of the corruptions.")]


def robustness(
    data: Data,
    model: Models = None,
    baseline: Baseline = None,
    captions: CaptionsFile = None,
    split: Split = None,
    labels: Labels = None,
    templates: options.Templates = None,
    corruptions: Corruptions = "standard",
    severities: Severities = "1,2,3,4,5",
    images: Images = 300,
    html: Html = None,
    skip_unknown: SkipUnknown = False,
    seed: Seed = 0,
    group_regex: options.GroupRegex = None,
    group_column: options.GroupColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure what a model bears: the 15 corruptions of ImageNet-C, JPEG, crops and more.

    Accuracy or recall, calibration and coverage against severity; mean corruption error beside a
    baseline; models compared in pairs. A fitted model is judged only by images that it has not
    learnt from. A run that was killed goes on where it was.
    """
    from miniclip.corruptions import named_corruptions
    from miniclip.evaluate.robustness import run_robustness
    from miniclip.evaluate.robustness.subjects import Caches, Draw
    from miniclip.home import cache_dir
    from miniclip.index.vector_cache import VectorCache

    names, degrees = named_corruptions(corruptions), _severities(severities)
    models = [*(model or []), *([baseline] if baseline else [])]
    if models and captions:
        raise typer.BadParameter("--captions measures retrieval, which no --model does")
    place = cache_dir() / CACHE_FILE
    with ExitStack() as stack:
        start = stack.enter_context(output.progress_bars())
        caches = Caches(
            stack.enter_context(VectorCache.open()), stack.enter_context(VectorCache.open(place))
        )
        draw = Draw(images or 1 << 62, seed, partial(_spin, start))
        if models:
            columns = {
                "group_regex": group_regex, "group_column": group_column,
                "image_column": image_column, "label_column": label_column,
            }  # fmt: skip
            subjects = _fitted(
                data, models, caches, draw,
                columns=columns, bundle=bundle, runtime=runtime, skip_unknown=skip_unknown,
            )  # fmt: skip
        else:
            subjects = _untrained(
                data, caches, draw,
                captions=(captions, split), labels=(labels, templates),
                columns=(image_column, label_column), bundle=bundle, runtime=runtime,
            )  # fmt: skip
        result = run_robustness(
            subjects.contestants,
            subjects.units,
            subjects.pictures,
            corruptions=names,
            severities=degrees,
            baseline=_name(baseline, models) if baseline else None,
            judged_by=subjects.judged_by,
            start=start,
        )
        if html:
            _write_page(html, result, subjects)
    if json:
        output.print_json(result.to_dict())
    else:
        print(result)
    _warn(result, place, strict=strict)


def _write_page(path: Path, result: RobustnessResult, subjects: Subjects) -> None:
    from miniclip.report.robustness import write_robustness_page

    pictures = next(iter(subjects.pictures.values()))
    write_robustness_page(path, result, pictures=pictures, command=output.command_line())


def _warn(result: RobustnessResult, place: Path, *, strict: bool) -> None:
    """Say where vectors are kept, what makes the figures doubtful, and what was left out."""
    if result.computed:
        size = place.stat().st_size / 1e6
        output.note(f"the vectors are kept in {place} ({size:,.0f} MB); delete it when done")
    for warning in result.warnings:
        output.warn(warning)
    total = result.images + len(result.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")


def _fitted(
    data: Path,
    directories: Sequence[Path],
    caches: Caches,
    draw: Draw,
    *,
    columns: dict[str, str | None],
    bundle: str | None,
    runtime: str | None,
    skip_unknown: bool,
) -> Subjects:
    from miniclip.cli.fit import mlp_trainer
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.evaluate.robustness.subjects import fitted_subjects
    from miniclip.probe.model import ClassifierModel
    from miniclip.runtimes import open_encoder

    models: dict[str, ClassifierModel] = {}
    encoders: dict[str, Encoder] = {}
    opened: dict[str, Encoder] = {}
    for directory in dict.fromkeys(directories):
        name = _name(directory, directories)
        models[name] = ClassifierModel.open(directory)
        found = models[name].find_bundle(bundle)
        if found.fingerprint not in opened:
            opened[found.fingerprint] = open_encoder(found, runtime=runtime)
        encoders[name] = opened[found.fingerprint]
    splits = read_labelled_splits(data, **columns)
    trains = any(one.head.kind == "mlp" for one in models.values())
    trainer = mlp_trainer() if trains and output.can_train() else None
    return fitted_subjects(
        models, encoders, splits, caches, draw, skip_unknown=skip_unknown, trainer=trainer
    )


def _untrained(
    data: Path,
    caches: Caches,
    draw: Draw,
    *,
    captions: tuple[Path | None, Path | None],
    labels: tuple[Path | None, Path | None],
    columns: tuple[str | None, str | None],
    bundle: str | None,
    runtime: str | None,
) -> Subjects:
    """Captions with their split, or labels with their templates."""
    from miniclip import load_encoder
    from miniclip.datasets.captions import read_captions
    from miniclip.datasets.folders import read_labelled
    from miniclip.evaluate.robustness.subjects import caption_subjects, zeroshot_subjects
    from miniclip.prompts import DEFAULT_TEMPLATES, read_templates

    if captions[0]:
        caption_set = read_captions(captions[0], data, captions[1], image_column=columns[0])
        return caption_subjects(load_encoder(bundle, runtime=runtime), caption_set, caches, draw)
    labelled = read_labelled(data, labels[0], image_column=columns[0], label_column=columns[1])
    sentences = read_templates(labels[1]) if labels[1] else DEFAULT_TEMPLATES
    encoder = load_encoder(bundle, runtime=runtime)
    return zeroshot_subjects(encoder, labelled, sentences, caches, draw)


def _spin(start: output.StartBar, what: str) -> None:
    start(what, None)


def _name(directory: Path, directories: Sequence[Path]) -> str:
    """Call a model by the name of its directory, or by its path where two are called alike."""
    name = directory.resolve().name
    alike = {one.resolve() for one in directories if one.resolve().name == name}
    return name if len(alike) == 1 else str(directory)


def _severities(text: str) -> tuple[int, ...]:
    from miniclip.corruptions import SEVERITIES

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word in map(str, SEVERITIES) for word in words):
        raise typer.BadParameter(f"--severities is {text!r}; give some of 1 to 5, such as 1,3,5")
    return tuple(sorted({int(word) for word in words}))
