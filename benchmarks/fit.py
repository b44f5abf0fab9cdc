"""How fast a classifier is fitted, and whether haste costs accuracy.

    python benchmarks/fit.py --data DIR [--rounds N] [--no-whole] [--json]

On features that are computed and cached beforehand, one split in turn, the same for both:

head    our default head, the choice of its penalty included
script  what one writes in an afternoon: PyTorch, a DataLoader with batches of 64, one hidden layer
        of 512, dropout 0.3, AdamW, 500 epochs, the validation images looked at after each

Then whole runs from nothing, each in a process of its own, with all that a user waits for:

fit     miniclip fit DIR: features, folds, calibration, rules, findings, report
embed   miniclip embed DIR: the features alone

`miniclip fit` says how good a classifier is; here accuracy only shows that both legs learn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from miniclip import MiniClipError, load_encoder
from miniclip.arrays import FloatArray, IntArray
from miniclip.cpus import usable_cpus
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads import Rows, fit_head
from miniclip.probe.prepare import Prepared, prepare
from miniclip.probe.splits import make_folds
from miniclip.views import named_views

Right = dict[str, float]  # accuracies by name, in 0..1
NEEDED_RATIO = 30.0  # the head against the script
ALLOWED_RATIO = 1.3  # a whole fit against embedding


def main() -> None:
    """Run what the command line asks for, and print it."""
    options = parse()
    try:
        report = measure(options)
    except MiniClipError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report, indent=2) if options.json else describe(report))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder per class")
    parser.add_argument("--bundle", help="name or directory; default: the shipped one")
    parser.add_argument("--rounds", type=int, default=1, help="splits, 1 to 5, taken together")
    parser.add_argument("--epochs", type=int, default=500, help="of the script")
    parser.add_argument("--no-whole", action="store_true", help="leave the whole runs out")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Time both legs on the same splits, then the whole runs."""
    encoder = load_encoder(options.bundle)
    with VectorCache.open() as cache:
        splits = read_labelled_splits(options.data)
        prepared = prepare(encoder, splits, cache, views=named_views("plain"))
    folds = make_folds(prepared.labels, prepared.group, folds=5, seed=0)
    legs = {"head": run_head, "script": script_leg(options.epochs)}
    seconds = dict.fromkeys(legs, 0.0)
    right: dict[str, list[Right]] = {leg: [] for leg in legs}
    load_libraries(prepared)
    for fold in range(min(options.rounds, folds.count)):
        for leg, run in legs.items():
            started = time.perf_counter()
            right[leg].append(run(prepared, folds.fold_of == fold))
            seconds[leg] += time.perf_counter() - started
    report: dict[str, object] = {
        "bundle": encoder.name,
        "data": splits.labelled.name,
        "images": len(prepared),
        "features": prepared.table.features.shape[-1],
        "classes": len(prepared.classes),
        "cpus": usable_cpus(),
        "machine": platform.processor() or platform.machine(),
        "head": FitSettings().head,
        "seconds": {leg: round(spent / len(right[leg]), 3) for leg, spent in seconds.items()},
        "accuracy": {
            f"{leg}, {name}": round(float(np.mean([each[name] for each in rounds])), 4)
            for leg, rounds in right.items()
            for name in rounds[0]
        },
        "times_faster": round(seconds["script"] / seconds["head"], 1),
    }
    return report if options.no_whole else report | {"whole": whole_runs(options)}


def load_libraries(prepared: Prepared) -> None:
    """Fit once on a few images, and import torch: neither leg pays for imports."""
    import torch  # noqa: F401, PLC0415 -- not everybody has it

    few = np.concatenate(
        [np.flatnonzero(prepared.labels == label)[:3] for label in np.unique(prepared.labels)]
    )
    run_head(prepared, ~np.isin(np.arange(len(prepared)), few))


def run_head(prepared: Prepared, judged: np.ndarray) -> Right:
    """Our way: fit the default head on the rest, judge these."""
    table, labels = prepared.table, prepared.labels
    rows = Rows(table.features[0], table.embeddings)
    head = fit_head(
        FitSettings().head,
        rows.take(~judged),
        labels[~judged],
        len(prepared.classes),
        groups=prepared.group[~judged],
        parts=table.parts,
    )
    return {"held out": accuracy(head.scores(rows.take(judged)), labels[judged])}


def script_leg(epochs: int) -> Callable[[Prepared, np.ndarray], Right]:
    """Make the leg of the plain script, which also tells its best epoch: not a fair choice."""

    def run(prepared: Prepared, judged: np.ndarray) -> Right:
        features, labels = prepared.table.features[0], prepared.labels
        seen = train_script(
            (features[~judged], labels[~judged]),
            (features[judged], labels[judged]),
            classes=len(prepared.classes),
            epochs=epochs,
        )
        return {"held out": seen[-1], "best epoch": max(seen)}

    return run


def train_script(
    train: tuple[FloatArray, IntArray],
    validation: tuple[FloatArray, IntArray],
    *,
    classes: int,
    epochs: int,
) -> list[float]:
    """Return the accuracy on the validation images after each epoch."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415

    torch.manual_seed(0)
    mean, std = train[0].mean(axis=0), train[0].std(axis=0) + 1e-6
    sets = [
        TensorDataset(torch.from_numpy((rows - mean) / std), torch.from_numpy(labels))
        for rows, labels in (train, validation)
    ]
    training = DataLoader(sets[0], batch_size=64, shuffle=True)
    judging = DataLoader(sets[1], batch_size=64)
    model = nn.Sequential(
        nn.Linear(train[0].shape[1], 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, classes)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    loss_of = nn.CrossEntropyLoss()
    seen = []
    for _ in range(epochs):
        model.train()
        for rows, labels in training:
            optimiser.zero_grad()
            loss_of(model(rows), labels).backward()
            optimiser.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for rows, labels in judging:
                right += int((model(rows).argmax(dim=1) == labels).sum())
        seen.append(right / len(validation[1]))
    return seen


def accuracy(scores: np.ndarray, labels: IntArray) -> float:
    """Share of rows whose largest score is that of the label."""
    return float((scores.argmax(axis=1) == labels).mean())


def whole_runs(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of both commands, each with an empty cache, and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        seconds = {
            "embed": timed(options, made / "a", "embed", "--features", "-o", made / "rows.npz"),
            "fit": timed(options, made / "b", "fit", "-o", made / "model"),
        }
    return seconds | {"fit_over_embed": round(seconds["fit"] / seconds["embed"], 3)}


def timed(options: argparse.Namespace, home: Path, verb: str, *more: str | Path) -> float:
    """Seconds of one command of its own, with an empty cache."""
    home.mkdir()
    command = [sys.executable, "-m", "miniclip", verb, options.data, *more, "--json"]
    if options.bundle:
        command += ["--bundle", options.bundle]
    started = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"MINICLIP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MiniClipError(f"miniclip {verb} failed: {done.stderr.strip()[-500:]}")
    return round(time.perf_counter() - started, 2)


def describe(report: dict[str, object]) -> str:
    """Write the report as lines for people."""
    seconds, right, whole = report["seconds"], report["accuracy"], report.get("whole")
    assert isinstance(seconds, dict)
    assert isinstance(right, dict)
    lines = [
        f"{report['data']}: {report['images']} images, {report['features']} features of "
        f"{report['bundle']}, {report['classes']} classes, {report['cpus']} CPUs "
        f"({report['machine']})",
        *(f"  {leg:18} {spent:9.2f} s" for leg, spent in seconds.items()),
        *(f"  {leg:18} {100 * share:9.2f} % right" for leg, share in right.items()),
        f"  {report['head']} head      {report['times_faster']:>9} times faster than the script "
        f"(needed: {NEEDED_RATIO:g})",
    ]
    if isinstance(whole, dict):
        lines += [
            f"  whole: fit {whole['fit']} s, embed {whole['embed']} s, "
            f"{whole['fit_over_embed']} times as long (allowed: {ALLOWED_RATIO:g})"
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
