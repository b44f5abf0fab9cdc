"""What each corruption costs: milliseconds of one core, at the size of a model's canvas.

    python benchmarks/robustness.py [SIDE]

It embeds nothing: `miniclip robustness` spends the rest of its time in the encoder.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from miniclip.corruptions import SEVERITIES, STANDARD, corrupt, named_corruptions
from miniclip.corruptions.pixels import Pixels

ROUNDS = 5


def milliseconds(picture: Pixels, name: str, severity: int) -> float:
    """Mean over rounds, after one that fills caches."""
    corrupt(picture, name, severity, np.random.default_rng(0))
    started = time.process_time()
    for seed in range(ROUNDS):
        corrupt(picture, name, severity, np.random.default_rng(seed))
    return (time.process_time() - started) / ROUNDS * 1000


def main() -> None:
    """Print a table."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 260
    photo = Image.fromarray(load_sample_image("china.jpg"))
    picture = np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC))
    print(f"{'ms of one core':20}", *(f"{severity:6}" for severity in SEVERITIES))
    standard = []
    for name in named_corruptions("all"):
        costs = [milliseconds(picture, name, severity) for severity in SEVERITIES]
        standard += costs if name in STANDARD else []
        print(f"{name:20}", *(f"{cost:6.1f}" for cost in costs))
    print(f"mean of the standard 15 x 5: {np.mean(standard):.1f}")


if __name__ == "__main__":
    main()
