"""Score every method of `miniclip explain`: planted truths, real photos, shuffled weights, seconds.

    python benchmarks/explain.py planted --pictures 40
    python benchmarks/explain.py photos --captions FILE --images DIR --split FILE --photos 100
    python benchmarks/explain.py shuffled --images DIR --photos 8 [--model MODEL | --captions FILE]

`photos` keeps each finished photo in --keep FILE (JSON lines) and goes on from there. Captions are
in the format of Flickr8k; a photo is asked about with its first one. `shuffled` asks for that, for
the class that a fitted model says, or, with neither, for the photo's own vector. All intervals are
of 95 %, by drawing photos again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.datasets.captions import CaptionedImage, read_captions
from miniclip.encoder import Encoder
from miniclip.explain.credibility import MEASURES, centre_map, curves, random_like
from miniclip.explain.explanation import CELLS, METHODS
from miniclip.explain.planted import KINDS, planted
from miniclip.explain.question import ask_class
from miniclip.explain.randomisation import check_randomisation, write_shuffled
from miniclip.explain.scores import cosine_to
from miniclip.explain.subject import Score, Subject
from miniclip.images import ImageSource, decode
from miniclip.index.scan import find_images
from miniclip.metrics import bootstrap_interval
from miniclip.probe.model import ClassifierModel
from miniclip.runtimes import open_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("planted", "photos", "shuffled"))
    parser.add_argument("--pictures", type=int, default=40, help="of each kind of planted truth")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--bundle")
    parser.add_argument("--model", type=Path, help="a fitted model, whose predicted class is asked")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--random", type=int, default=5, help="random maps of each photo")
    parser.add_argument("--keep", type=Path, default=Path("explain.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    {"planted": on_planted, "photos": on_photos, "shuffled": on_shuffled}[options.what](options)


def on_planted(options: argparse.Namespace) -> None:
    """Print pointing-game accuracy of each method on each kind of truth."""
    print(f"| pointing game, {options.pictures} each | " + " | ".join(KINDS) + " |")
    for method in options.methods:
        found = []
        for kind in KINDS:
            hits = []
            for one in planted(kind, options.pictures, seed=options.seed):
                drops = METHODS[method](Subject(one.encoder, one.image, one.score), options.seed)
                hits.append(one.hit_by(drops))
            found.append(f"{np.mean(hits):.0%}")
        print(f"| `{method}` | " + " | ".join(found) + " |", flush=True)


def on_photos(options: argparse.Namespace) -> None:
    """Print deletion and insertion of each method, and how far they are from both baselines."""
    encoder = open_encoder(Bundle.resolve(options.bundle))
    chosen = _captioned(options)
    done = _kept(options.keep)
    for number, one in enumerate(chosen, start=1):
        name = one.source.name
        if name not in done:
            done[name] = _photo(encoder, one, options)
            with options.keep.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"photo": name} | done[name]) + "\n")
        if number == len(chosen) or number % 5 == 0:
            _print_photos([done[one.source.name] for one in chosen[:number]], options.methods)


def _captioned(options: argparse.Namespace) -> list[CaptionedImage]:
    """Draw photos that have captions."""
    images = read_captions(options.captions, options.images, split=options.split).images
    order = np.random.default_rng(options.seed).permutation(len(images))
    return [images[place] for place in order[: options.photos].tolist()]


def _photo(encoder: Encoder, photo: CaptionedImage, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all methods and baselines on one photo."""
    (vector,) = encoder.encode_texts([photo.captions[0]])
    subject = Subject(encoder, _read(encoder, photo.source), cosine_to(vector))
    maps, seconds = {}, {}
    for method in options.methods:
        start = time.perf_counter()
        maps[method] = METHODS[method](subject, options.seed)
        seconds[method] = time.perf_counter() - start
    rng = np.random.default_rng(options.seed)
    like = maps[options.methods[0]]
    others = [random_like(like, rng) for _ in range(options.random)]
    found = curves(subject, [*maps.values(), centre_map(CELLS), *others])
    values = {
        name: {measure: getattr(one, measure) for measure in MEASURES.values()}
        for name, one in zip([*maps, "middle"], found, strict=False)
    }
    last = found[len(maps) + 1 :]
    values["random"] = {
        measure: float(np.mean([getattr(one, measure) for one in last]))
        for measure in MEASURES.values()
    }
    return {"values": values, "seconds": seconds}


def _print_photos(photos: Sequence[dict[str, Any]], methods: Sequence[str]) -> None:
    def column(name: str, measure: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([photo["values"][name][measure] for photo in photos])

    shown = {name: measure for name, measure in MEASURES.items() if name != "gain"}
    print(f"\n{len(photos)} photos", flush=True)
    heads = [f"{name} | less random | less the middle" for name in shown]
    print("| map | " + " | ".join(heads) + " | seconds |")
    print("|---" * (3 * len(shown) + 2) + "|")
    for name in [*methods, "middle", "random"]:
        cells = []
        for measure in shown.values():
            cells.append(f"{column(name, measure).mean():.3f}")
            for other in ("random", "middle"):
                less = column(name, measure) - column(other, measure)
                low, high = bootstrap_interval(less)
                said = f"{less.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
                cells.append(said if name != other else "")
        times = [photo["seconds"][name] for photo in photos] if name in methods else []
        cells.append(f"{np.median(times):.1f}" if times else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


def on_shuffled(options: argparse.Namespace) -> None:
    """Print the rank correlation of each method's maps with those of shuffled weights."""
    fitted = ClassifierModel.open(options.model) if options.model else None
    bundle = fitted.find_bundle(options.bundle) if fitted else Bundle.resolve(options.bundle)
    encoder = open_encoder(bundle)
    scores: list[Score] | None = None
    if options.captions:
        photos = _captioned(options)
        pictures = [_read(encoder, photo.source) for photo in photos]
        vectors = encoder.encode_texts([photo.captions[0] for photo in photos])
        scores = [cosine_to(vector) for vector in vectors]
    else:
        paths = sorted(find_images([options.images]))
        drawn = np.random.default_rng(options.seed).permutation(len(paths))[: options.photos]
        pictures = [_read(encoder, paths[place]) for place in drawn]
    if fitted:
        scores = [ask_class(encoder, picture, fitted).score for picture in pictures]
    with tempfile.TemporaryDirectory() as folder:
        shuffled = open_encoder(write_shuffled(bundle, Path(folder) / "shuffled"))
        for method in options.methods:
            found = check_randomisation(encoder, shuffled, pictures, METHODS[method], scores)
            low, high = found.interval
            about = f"{found} [{low:.2f}, {high:.2f}]"
            print(f"| {options.model or bundle.name} | `{method}` | {about} |", flush=True)


def _read(encoder: Encoder, source: ImageSource | Path) -> Image.Image:
    return decode(source, at_least=2 * encoder.image_spec.resize_side)


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {photo.pop("photo"): photo for photo in map(json.loads, lines)}


if __name__ == "__main__":
    main()
