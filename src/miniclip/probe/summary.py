"""A fit in a dozen lines, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from miniclip.probe.intervals import Score
from miniclip.probe.results import Figures, FitResult, PresetComparison
from miniclip.safe_text import one_line


def summary(result: FitResult) -> str:
    """Return what `miniclip fit` prints."""
    return "\n".join(map(one_line, _lines(result)))


def figure_lines(figures: Figures, *, new: bool = False) -> list[str]:
    """Return the figures of one set of images, one a line; new: not those of the fit."""
    scores, conformal = figures.scores, figures.conformal
    held = f"sets hold the label, aim {1 - conformal.alpha:.0%}"
    return [
        _line("accuracy", scores.accuracy),
        _line("macro F1", scores.macro_f1),
        _line("calibration error", scores.ece) + f", {scores.ece_by_chance:.2%} by chance",
        _line(held, conformal.coverage) + f", {conformal.set_size:.2f} labels on average",
        figures.abstention.outcome() if new else figures.abstention.promise(),
    ]


def _lines(result: FitResult) -> Iterator[str]:
    yield result.protocol
    yield from figure_lines(result.figures)
    for name, scores in result.figures.scores.per_class.items():
        if scores.f1 and scores.recall:
            yield _line(f"  {name}", scores.f1) + f" F1, recall {scores.recall.value:.1%}"
    repeats = result.repeats
    if repeats.exact or repeats.near:
        said = f"{repeats.exact} files are byte-identical to others and {repeats.near} nearly so; "
        if result.naive:
            accuracy = result.naive.accuracy.value
            yield f"{said}with these on both sides of the split: {accuracy:.2%} accuracy"
        else:
            yield f"{said}the split keeps these on one side; what they add on both was not measured"
    if repeats.conflicts:
        first = repeats.conflicts[0]
        yield (
            f"{len(repeats.conflicts)} pairs show one picture under two labels, first: "
            f"{first.first} ({first.first_label}) and {first.second} ({first.second_label})"
        )
    for name, figures in (("test", result.test), ("test with repeats", result.test_naive)):
        if figures and not (figures is result.test_naive and result.test is figures):
            yield _line(name, figures.scores.accuracy) + f", {figures.abstention.outcome()}"
    for rival in result.rivals:
        yield _line(rival.name, rival.accuracy) + f": {rival.comparison.verdict}"
    if result.presets:
        yield from _presets(result.presets)
    yield _line("held-out images that the gate refuses", result.gate.refused)
    yield from (shortcut.warning for shortcut in result.shortcuts if shortcut.warning)
    if result.doubts:
        names = ", ".join(doubt.name for doubt in result.doubts[:3])
        yield f"{len(result.doubts)} labels look doubtful, first: {names}"


def _presets(presets: PresetComparison) -> Iterator[str]:
    for run in presets.runs:
        lowest = min(run.curves.validation_loss)
        yield (
            _line(f"preset {run.name}", run.accuracy)
            + f", validation loss {lowest:.2f} -> {run.curves.validation_loss[-1]:.2f}"
        )
    ratio = presets.ratio_of_rises
    said = "the second does not rise" if ratio is None else f"rises {ratio:.1f} times as far"
    yield f"the loss of the first {said}; accuracy: {presets.comparison.verdict}"


def _line(name: str, score: Score) -> str:
    return f"{name:<28} {score}"
