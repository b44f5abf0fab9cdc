"""The curves of a run as one picture: losses, dev recalls, temperature and gradients."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miniclip.atomic import replacing
from miniclip.train.logs import STEP, Row

PICTURE = "curves.png"
_PANELS = {
    "loss": ("loss",),
    "recall on the dev split": ("dev_",),
    "logit scale": ("logit_scale",),
    "gradient norm": ("gradient_",),
}


def draw_curves(run: Path, rows: list[Row]) -> None:
    """Write RUN/curves.png; without a display and without touching matplotlib's global state."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, prefixes) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        _draw(axes, title, prefixes, rows)
    with replacing(run / PICTURE) as stream:
        figure.savefig(stream, format="png", dpi=110)


def _draw(axes: Axes, title: str, prefixes: tuple[str, ...], rows: list[Row]) -> None:
    names = dict.fromkeys(key for row in rows for key in row if key.startswith(prefixes))
    for name in names:
        points = [(int(row[STEP]), float(row[name])) for row in rows if row.get(name)]
        steps, values = zip(*points, strict=True)
        label = name.removeprefix("dev_").removeprefix("gradient_").replace("_", " ")
        axes.plot(steps, values, label=label, linewidth=1, marker="." if len(points) < 30 else "")
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if title == "gradient norm" and names:
        axes.set_yscale("log")
    if len(names) > 1:
        axes.legend(fontsize=7)
