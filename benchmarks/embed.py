"""How fast, and in how much memory, photos become vectors.

    python benchmarks/embed.py --images DIR [--count N] [--json]

Three ways from the same photos, in turns, so that a busy machine disturbs all of them alike:

pipeline  our way: JPEG files to vectors through `embed_stream`
graph     the image graph alone on pixels that are ready: what the pipeline could reach at most
torch     what one writes in an afternoon: Pillow, stack, eager torch model, one batch at a time

Then the peak memory of the pipeline over few and over many photos, each in a process of its own.
It checks no vectors; tests do.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from miniclip import ImageSource, MiniClipError, OnnxEncoder, embed_stream, find_images
from miniclip.arrays import FloatArray
from miniclip.bundle import Bundle
from miniclip.cpus import usable_cpus
from miniclip.demo import copy_photos
from miniclip.images import decode
from miniclip.preprocess import preprocess

Leg = Callable[[], object]


def main() -> None:
    """Run what the command line asks for, and print it."""
    options = parse()
    try:
        if options.peak_of:
            print(peak_megabytes(options))
            return
        with tempfile.TemporaryDirectory() as scratch:
            options.images = options.images or demo_photos(Path(scratch))
            report = measure(options)
    except MiniClipError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report, indent=2) if options.json else describe(report))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder; default: the demo's photos as JPEG")
    parser.add_argument("--count", type=positive, default=256, help="photos per leg and round")
    parser.add_argument("--bundle", help="name or directory; default: the shipped one")
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--threads", type=positive, help="default: all CPUs this process may use")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--torch-tower", help="image tower; default: what the bundle's card says")
    parser.add_argument(
        "--memory",
        type=positive,
        nargs="*",
        default=[1000, 8000],
        help="photos; none to leave it out",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def positive(text: str) -> int:
    """Read a whole number from 1 up; argparse turns the error into a message."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def demo_photos(folder: Path) -> Path:
    """Write the photos of the demo as JPEG, as photos usually are, and return their folder."""
    for path in copy_photos(folder / "originals"):
        decode(path).save(folder / f"{path.stem}.jpg", quality=90)
        path.unlink()
    return folder


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Time the legs in turns, then the memory."""
    bundle = Bundle.resolve(options.bundle)
    encoder = OnnxEncoder.open(bundle, threads=options.threads)
    paths = photos(options.images, options.count)
    legs: dict[str, Leg] = {
        "pipeline": lambda: run_pipeline(encoder, paths, options),
        "graph": graph_leg(encoder, paths, options.batch_size),
    }
    left_out = {}
    try:
        legs["torch"] = torch_leg(bundle, paths, options)
    except (MiniClipError, ImportError) as error:
        left_out["torch"] = str(error)
    seconds = in_turns(legs, options.rounds)
    rates = {leg: len(paths) / statistics.median(times) for leg, times in seconds.items()}
    return {
        "bundle": bundle.name,
        "photos": len(paths),
        "batch_size": options.batch_size,
        "cpus": usable_cpus(),
        "machine": platform.processor() or platform.machine(),
        "images_per_second": {leg: round(rate, 2) for leg, rate in rates.items()},
        "seconds": {leg: [round(one, 3) for one in times] for leg, times in seconds.items()},
        "pipeline_over": {
            leg: round(ratio_in_turns(seconds[leg], seconds["pipeline"]), 3)
            for leg in legs
            if leg != "pipeline"
        },
        "left_out": left_out,
        "peak_megabytes": {str(count): peak_in_child(count, options) for count in options.memory},
    }


def in_turns(legs: dict[str, Leg], rounds: int) -> dict[str, list[float]]:
    """Seconds of each leg in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {leg: [] for leg in legs}
    for turn in range(rounds + 1):
        for leg, run in legs.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[leg].append(time.perf_counter() - started)
    return seconds


def ratio_in_turns(others: list[float], ours: list[float]) -> float:
    """Median over rounds of how many times faster ours was in that round."""
    return statistics.median(other / own for other, own in zip(others, ours, strict=True))


def photos(folder: Path, count: int) -> list[Path]:
    """Take the first `count` images of a folder, from the start again when there are fewer."""
    found = list(islice(find_images([folder]), count))
    if not found:
        raise MiniClipError(f"no image in {folder}; give a folder of photos with --images")
    return list(islice(cycle(found), count))


def run_pipeline(encoder: OnnxEncoder, paths: Sequence[Path], options: argparse.Namespace) -> None:
    """Our way; results are dropped as they come."""
    stream = embed_stream(
        encoder,
        map(ImageSource.of, paths),
        batch_size=options.batch_size,
        threads=options.threads,
    )
    deque(stream, maxlen=0)


def graph_leg(encoder: OnnxEncoder, paths: Sequence[Path], batch_size: int) -> Leg:
    """Only the graph, on batches that are decoded beforehand (at most 8 different ones)."""
    spec = encoder.image_spec
    sizes = [min(batch_size, len(paths) - start) for start in range(0, len(paths), batch_size)]
    coming = iter(paths)
    ready: list[FloatArray] = [
        np.stack([preprocess(decode(path), spec) for path in islice(coming, size)])
        for size in sizes[:8]
    ]

    def run() -> None:
        for batch, size in zip(cycle(ready), sizes, strict=False):
            encoder.encode_pixels(batch[:size])

    return run


def torch_leg(bundle: Bundle, paths: Sequence[Path], options: argparse.Namespace) -> Leg:
    """Run the same tower in eager torch, fed by a plain Pillow loop.

    The tower is named by the bundle's provenance ("image_tower"). Its published weights stand in
    for the trained ones: they cost the same time.
    """
    tower_name = options.torch_tower or bundle.manifest.provenance.get("image_tower")
    if not tower_name:
        raise MiniClipError("the bundle does not say its image tower; name it by --torch-tower")

    import torch  # noqa: PLC0415 -- not everybody has it

    from miniclip.train.towers.centre import enlarged_centre  # noqa: PLC0415
    from miniclip.train.towers.image import load_image_tower  # noqa: PLC0415

    spec = bundle.manifest.image
    centre = float(bundle.manifest.provenance.get("image_centre") or 0)
    tower = load_image_tower(tower_name).eval()
    size, bicubic = (spec.side, spec.side), Image.Resampling.BICUBIC
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)

    def pixels(path: Path) -> torch.Tensor:
        image = Image.open(path).convert("RGB").resize(size, bicubic)
        scaled = (np.asarray(image, dtype=np.float32) / 255 - mean) / std
        return torch.from_numpy(scaled.transpose(2, 0, 1).copy())

    def run() -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        with torch.inference_mode():
            for start in range(0, len(paths), options.batch_size):
                batch = paths[start : start + options.batch_size]
                looks = torch.stack([pixels(path) for path in batch])
                tower(looks)
                if centre:
                    tower(enlarged_centre(looks, centre))

    return run


def peak_in_child(count: int, options: argparse.Namespace) -> float:
    """Peak memory of the pipeline over `count` photos, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", str(count), "--images", str(options.images)]
    command += ["--batch-size", str(options.batch_size)]
    if options.bundle:
        command += ["--bundle", options.bundle]
    if options.threads:
        command += ["--threads", str(options.threads)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peak_megabytes(options: argparse.Namespace) -> float:
    """Stream the photos and say how much memory this process held at most."""
    encoder = OnnxEncoder.open(Bundle.resolve(options.bundle), threads=options.threads)
    run_pipeline(encoder, photos(options.images, options.peak_of), options)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held when it started us
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def describe(report: dict[str, object]) -> str:
    """Write the report as lines for people."""
    lines = [
        f"{report['bundle']}: {report['photos']} photos in batches of {report['batch_size']}, "
        f"{report['cpus']} CPUs ({report['machine']}); medians, legs in turns"
    ]
    for title, unit in (
        ("images_per_second", "images/s"),
        ("pipeline_over", "x the speed of this leg"),
        ("peak_megabytes", "MB peak for so many photos"),
        ("left_out", ""),
    ):
        table = report[title]
        assert isinstance(table, dict)
        lines += [f"  {title.replace('_', ' '):18} {key:>9}  {table[key]} {unit}" for key in table]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
