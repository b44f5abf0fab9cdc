"""The model card: what a fitted classifier is for, how good it is and where it fails, in Markdown.

For people who get the model directory from somebody else. It computes nothing.
"""

from __future__ import annotations

from miniclip.probe.intervals import Score
from miniclip.probe.results import FitResult
from miniclip.safe_text import one_line


def write_card(result: FitResult) -> str:
    """Return the card of a fit, UTF-8 Markdown without dates or places."""
    parts = [
        f"# Classifier of {result.data.name}",
        _what(result),
        "## How good it is",
        result.protocol,
        _figures(result),
        "## By class",
        _by_class(result),
        "## Decisions",
        _decisions(result),
        "## What to know before using it",
        _warnings(result),
        "## How to make it again",
        f"```sh\n{result.reproduce}\n```" if result.reproduce else "Not recorded.",
    ]
    return "\n\n".join(parts) + "\n"


def _what(result: FitResult) -> str:
    images = sum(result.data.images.values())
    return (
        f"Tells {len(result.classes)} classes apart: {', '.join(map(_cell, result.classes))}. A "
        f"{result.head.kind} head on frozen features of the bundle {result.head.bundle} "
        f"(`{result.head.bundle_fingerprint[:12]}`), views {', '.join(result.head.views)}; learnt "
        f"from {images:,} images (data `{result.data.fingerprint[:12]}`)."
    )


def _figures(result: FitResult) -> str:
    figures = result.figures
    rows = [
        ("accuracy", figures.scores.accuracy),
        ("macro F1", figures.scores.macro_f1),
        ("calibration error (ECE)", figures.scores.ece),
        (
            f"sets hold the label (aim {1 - figures.conformal.alpha:.0%})",
            figures.conformal.coverage,
        ),
    ]
    if result.naive:
        rows.append(("accuracy where repeats straddle the split", result.naive.accuracy))
    if result.test:
        rows.append(("accuracy on the test part", result.test.scores.accuracy))
    lines = [f"| {name} | {_percent(score)} |" for name, score in rows]
    return "\n".join(["| held out | 95 % interval |", "|---|---|", *lines])


def _by_class(result: FitResult) -> str:
    lines = []
    for name, scores in result.figures.scores.per_class.items():
        cells = [
            _percent(score) if score else "-"
            for score in (scores.precision, scores.recall, scores.f1, scores.auroc)
        ]
        lines.append(f"| {_cell(name)} | {scores.images} | {' | '.join(cells)} |")
    head = "| class | images | precision | recall | F1 | AUROC |"
    return "\n".join([head, "|---|---|---|---|---|---|", *lines])


def _decisions(result: FitResult) -> str:
    return (
        f"{result.figures.abstention.promise()}, for a target of "
        f"{result.figures.abstention.target_error:.1%}. The gate against other kinds of images "
        f"({result.gate.kind}) turns {_percent(result.gate.refused)} of held-out images away."
    )


def _warnings(result: FitResult) -> str:
    repeats = result.repeats
    said = [shortcut.warning for shortcut in result.shortcuts if shortcut.warning]
    said += result.warnings
    if repeats.exact or repeats.near:
        said.append(
            f"{repeats.exact} files repeat others byte by byte and {repeats.near} more nearly so; "
            "they were kept on one side of each split."
        )
    if repeats.conflicts:
        said.append(f"{len(repeats.conflicts)} pictures stand under two labels.")
    if result.skipped:
        said.append(f"{len(result.skipped)} files were left out.")
    said.append(
        "The figures hold for images like these; a new camera, scanner or site needs "
        "`miniclip evaluate classifier` on labelled images of its own."
    )
    return "\n".join(f"- {line}" for line in said)


def _cell(name: str) -> str:
    """Let a name be text that neither ends the line nor the cell."""
    return one_line(name).replace("|", "\\|")


def _percent(score: Score) -> str:
    low, high = score.interval
    return f"{score.value:.1%} [{low:.1%}, {high:.1%}]"
