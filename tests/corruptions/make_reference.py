"""Write reference.json: what the reference implementation makes of three free photos.

Run once, in an environment of its own; nothing else needs these packages:

    pip install imagecorruptions==1.1.2 opencv-python-headless scikit-image scikit-learn
    python -m tests.corruptions.make_reference [NAME ...]

With names, only these are measured anew (each has seeds of its own, so the others stay).
imagecorruptions 1.1.2 (Michaelis et al. 2019) is the code of ImageNet-C for pictures of any size.
It is broken on NumPy 2, SciPy 1.17 and scikit-image 0.26, which dropped names that it uses; they
are put back below. Its motion blur and snow replace ImageMagick's, its glass blur copies pixels
where it means to swap them, and snow, frost, fog, noise, glass, motion and waves are random: so
statistics are compared and not pixels, each with its standard deviation over the seeds.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from tests.corruptions.statistics_of import photos, statistics_of

FILE = Path(__file__).with_name("reference.json")
SEEDS = 16
MANY = {"frost": 96, "fog": 96, "motion_blur": 48, "snow": 48}  # where chance decides most
_PACKAGES = (
    "imagecorruptions", "numpy", "scipy", "scikit-image", "scikit-learn", "pillow",
    "opencv-python-headless",
)  # fmt: skip


def reference_corrupt() -> Callable[..., NDArray[np.uint8]]:
    """Import the reference, with what it misses put back."""
    setattr(np, "float" + "_", np.float64)
    gone: Any = types.ModuleType("scipy.ndimage.interpolation")
    gone.map_coordinates = scipy.ndimage.map_coordinates
    sys.modules[gone.__name__] = gone
    code: Any = import_module("imagecorruptions.corruptions")
    gaussian = code.gaussian

    def gaussian_of_old(
        image: Any, *arguments: Any, multichannel: bool = False, **rest: Any
    ) -> Any:
        axis = -1 if multichannel else None
        return gaussian(image, *arguments, channel_axis=axis, **rest)

    code.gaussian = gaussian_of_old
    corrupt: Callable[..., NDArray[np.uint8]] = import_module("imagecorruptions").corrupt
    return corrupt


def main() -> None:
    """Measure and write."""
    corrupt = reference_corrupt()
    names = import_module("imagecorruptions").get_corruption_names()
    found: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in names}
    if sys.argv[1:]:
        found |= json.loads(FILE.read_text("utf-8"))["statistics"]
    for name in sys.argv[1:] or names:
        found[name] = {}
        for severity in range(1, 6):
            by_seed = []
            for seed in range(MANY.get(name, SEEDS)):
                np.random.seed(seed)  # noqa: NPY002 -- the reference draws from it
                measured = [
                    statistics_of(corrupt(photo, severity, name), photo) for photo in photos()
                ]
                by_seed.append({key: np.mean([m[key] for m in measured]) for key in measured[0]})
            found[name][str(severity)] = {
                key: [
                    round(float(np.mean([one[key] for one in by_seed])), 4),
                    round(float(np.std([one[key] for one in by_seed], ddof=1)), 4),
                ]
                for key in by_seed[0]
            }
    about = {
        "seeds": {n: MANY.get(n, SEEDS) for n in names},
        "versions": {name: version(name) for name in _PACKAGES},
    }
    FILE.write_text(json.dumps({"about": about, "statistics": found}, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
