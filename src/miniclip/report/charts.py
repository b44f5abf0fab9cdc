"""Charts of a report as PNG data URIs, drawn by matplotlib; None where that is not installed.

Numbers in, pictures out: nothing here computes a figure.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from miniclip.probe.calibration import ReliabilityBin
from miniclip.probe.results import AbstentionResult, Curves

EXTRA = "report"
_DPI = 110


def can_draw() -> bool:
    """Whether charts can be drawn: matplotlib comes with miniclip[report]."""
    return find_spec("matplotlib") is not None


def learning_curves(runs: Mapping[str, Curves]) -> str | None:
    """Loss and accuracy by epoch, training dashed and validation solid, a colour for each run."""

    def draw(figure: Any) -> None:
        for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, curves) in enumerate(runs.items()):
                for part, line in (("train", "--"), ("validation", "-")):
                    values = getattr(curves, f"{part}_{what}")
                    epochs = range(1, len(values) + 1)
                    label = f"{name}, {part}" if name else part
                    axes.plot(epochs, values, line, color=f"C{number}", linewidth=1.3, label=label)
            axes.set(xlabel="epoch", ylabel=what)
            axes.set_ylim(bottom=0 if what == "loss" else None)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)

    return png((10, 3.8), draw)


def reliability(bins: Sequence[ReliabilityBin]) -> str | None:
    """Accuracy against confidence; the diagonal is what a calibrated model would show."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle="--", label="calibrated")
        axes.plot(
            [one.confidence for one in bins],
            [one.accuracy for one in bins],
            marker="o",
            markersize=4,
            label="this model",
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return png((4.4, 4), draw)


def risk_coverage(abstention: AbstentionResult) -> str | None:
    """Errors among the images that are decided without a person, by how many those are."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        curve = abstention.curve
        axes.plot([100 * one.coverage for one in curve], [100 * one.error for one in curve])
        axes.axhline(100 * abstention.target_error, color="grey", linewidth=1, linestyle="--")
        axes.axvline(100 * abstention.automatic.value, color="C1", linewidth=1, linestyle="--")
        axes.set(xlabel="decided without a person, %", ylabel="errors among them, %")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)

    return png((4.4, 4), draw)


def png(inches: tuple[float, float], draw: Callable[[Any], None]) -> str | None:
    """Return what `draw` puts on a figure of this size as a data URI; None without matplotlib."""
    if not can_draw():
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- optional
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return "data:image/png;base64," + b64encode(stream.getvalue()).decode()
