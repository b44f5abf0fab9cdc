"""How fast a full-size CLIP ViT-B/32 runs here, and how near that is to what the machine can do.

    python -m benchmarks.runtime [--images DIR | --megapixels M] [--count N] [--keep DIR] [--json]

From JPEG files to vectors, in turns, on the same photos and as many threads: transformers' own
processor and model, fastembed and faster-clip where they are installed, and miniclip in float32,
int8 and OpenVINO.
Beside them the bare graphs on pixels that are ready, and the products of matrices alone, which no
program can beat in that precision. Then texts, and what a start costs in time and memory.

Whether vectors are right is the business of tests; the least cosine to float32 stands here because
speed that costs accuracy is no speed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from benchmarks.embed import demo_photos, in_turns, positive, ratio_in_turns
from benchmarks.matrix_products import gemm_limits
from benchmarks.runtime_models import Models, make_models
from miniclip import ImageSource, embed_all, find_images
from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import IMAGE_FILE, Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.cpus import usable_cpus
from miniclip.images import decode
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.openvino_encoder import OpenvinoEncoder
from miniclip.preprocess import preprocess

GFLOP_AN_IMAGE = 8.8  # multiplications and additions of the image tower
BATCH = 32
FEW = 8  # images that faster-clip does at once: more are slower
CAPTIONS = 256

Leg = Callable[[], Any]


def main() -> None:
    """Run what the command line asks for, and print it."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        photos = options.images or photos_of_the_demo(folder, options.megapixels)
        paths = sorted(find_images([photos]))
        models = make_models(folder, paths[:20])
        report = measure(models, list(islice(cycle(paths), options.count)), options)
    print(json.dumps(report, indent=2) if options.json else describe(report))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder; default: the demo's photos as JPEG")
    parser.add_argument("--megapixels", type=float, default=0.3, help="to enlarge those photos to")
    parser.add_argument("--count", type=positive, default=256, help="photos per leg and round")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=usable_cpus())
    parser.add_argument("--keep", type=Path, help="folder where the models stay for another run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def photos_of_the_demo(folder: Path, megapixels: float) -> Path:
    """Write them once, by default as large as the photos of COCO: reading a JPEG is work too."""
    photos = folder / f"photos-{megapixels:g}"
    if not photos.exists():
        for path in demo_photos(folder / "photos").glob("*.jpg"):
            photo = decode(path)
            scale = math.sqrt(megapixels * 1e6 / math.prod(photo.size))
            photos.mkdir(exist_ok=True)
            size = round(scale * photo.width), round(scale * photo.height)
            large = photo.resize(size, Image.Resampling.BICUBIC)
            large.save(photos / path.name, quality=90)
    return photos


def measure(models: Models, paths: list[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Time photos, graphs, texts and starts."""
    threads = options.threads
    limits = gemm_limits(threads)
    encoders = our_encoders(models, threads)
    pixels = np.stack([preprocess(decode(p), models.float32.manifest.image) for p in paths[:BATCH]])

    from_jpeg: dict[str, Leg] = {"transformers": transformers_photos(models, paths, threads)}
    left_out = {}
    for name, peer in PEERS.items():
        try:
            from_jpeg[name] = peer(models, paths, threads)
        except ImportError as error:
            left_out[name] = str(error)
    for name, encoder in encoders.items():
        from_jpeg[name] = photos_leg(encoder, paths, threads)
    bare: dict[str, Leg] = {
        name: pixels_leg(encoder, pixels, len(paths)) for name, encoder in encoders.items()
    }
    bare["onnxruntime dynamic int8"] = dynamic_leg(models, pixels, len(paths), threads)

    seconds = in_turns(
        {f"jpeg {k}": v for k, v in from_jpeg.items()} | {f"bare {k}": v for k, v in bare.items()},
        options.rounds,
    )
    texts = captions()
    text_legs: dict[str, Leg] = {"transformers": transformers_texts(models, texts, threads)}
    text_legs |= {name: texts_leg(encoder, texts) for name, encoder in encoders.items()}
    text_seconds = in_turns(text_legs, max(2, options.rounds // 2))
    return {
        "photos": len(paths),
        "pixels": statistics.median(math.prod(decode(path).size) for path in set(paths)),
        "threads": threads,
        "gemm_gflops": limits,
        "table": [
            row(name, seconds, len(paths), limits) for name in dict.fromkeys([*from_jpeg, *bare])
        ],
        "texts": {name: rate(times, len(texts)) for name, times in text_seconds.items()},
        "cosine_min": agreement(models, encoders, paths),
        "starts": {
            name: start_in_child(name, models, paths[0], threads)
            for name in ("transformers", *encoders)
        },
        "verdicts": models.verdicts,
        "left_out": left_out,
    }


def our_encoders(models: Models, threads: int) -> dict[str, BundleEncoder]:
    """Open every form that miniclip runs."""
    return {name: open_form(name, models, threads) for name in FORMS}


def open_form(name: str, models: Models, threads: int) -> BundleEncoder:
    """Open one of FORMS."""
    bundle = bundle_of(name, models)
    if name.startswith("onnxruntime"):
        return OnnxEncoder(bundle, threads)
    return OpenvinoEncoder(bundle, threads, bfloat16="bfloat16" in name)


def bundle_of(name: str, models: Models) -> Bundle:
    """Return what one of FORMS runs."""
    bundle: Bundle = getattr(models, FORMS[name][0])
    return bundle


# Name -> the bundle that it runs, and the precision of its products.
FORMS = {
    "onnxruntime float32": ("float32", "float32"),
    "onnxruntime int8": ("int8", "int8"),
    "openvino float32": ("float32", "float32"),
    "openvino bfloat16": ("float32", "bfloat16"),
    "openvino int8": ("portable", "int8"),
}


def photos_leg(encoder: BundleEncoder, paths: Sequence[Path], threads: int) -> Leg:
    """Turn JPEG files to vectors, our way."""
    return lambda: embed_all(encoder, map(ImageSource.of, paths), batch_size=BATCH, threads=threads)


def pixels_leg(encoder: BundleEncoder, pixels: FloatArray, count: int) -> Leg:
    """Run the graph alone, for as many images as there are photos."""

    def run() -> None:
        for start in range(0, count, BATCH):
            encoder.encode_pixels(pixels[: min(BATCH, count - start)])

    return run


def texts_leg(encoder: BundleEncoder, texts: list[str]) -> Leg:
    """Turn sentences to vectors, our way."""
    return lambda: encoder.encode_texts(texts)


def dynamic_leg(models: Models, pixels: FloatArray, count: int, threads: int) -> Leg:
    """Onnxruntime's own dynamic int8, in the batches that suit it best."""
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session = ort.InferenceSession(models.dynamic / IMAGE_FILE, session_options)

    def run() -> None:
        for start in range(0, count, BATCH // 2):
            session.run(None, {"pixels": pixels[: min(BATCH // 2, count - start)]})

    return run


def transformers_photos(models: Models, paths: Sequence[Path], threads: int) -> Leg:
    """Do what the library's documentation says: open, processor, model; a batch at a time."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel

    torch.set_num_threads(threads)
    model = CLIPModel.from_pretrained(models.checkpoint).eval()
    processor = CLIPImageProcessorPil.from_pretrained(models.checkpoint)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(paths), BATCH):
                images = [Image.open(path) for path in paths[start : start + BATCH]]
                model.get_image_features(**processor(images=images, return_tensors="pt"))

    return run


def transformers_texts(models: Models, texts: list[str], threads: int) -> Leg:
    """Do the same for sentences."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    torch.set_num_threads(threads)
    model = CLIPModel.from_pretrained(models.checkpoint).eval()
    tokenizer = CLIPTokenizer.from_pretrained(models.checkpoint)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
                model.get_text_features(**tokens)

    return run


def fastembed_photos(models: Models, paths: Sequence[Path], threads: int) -> Leg:
    """Run the nearest library without torch, on a plain export of the same weights."""
    from fastembed import ImageEmbedding

    model = ImageEmbedding(
        "Qdrant/clip-ViT-B-32-vision", threads=threads, specific_model_path=str(models.fastembed)
    )
    return lambda: list(model.embed(list(map(str, paths)), batch_size=BATCH))


def faster_clip_photos(models: Models, paths: Sequence[Path], threads: int) -> Leg:
    """Run the library without torch and ONNX on the same weights, which it stores in int8."""
    os.environ["FASTER_CLIP_CACHE"] = str(models.faster_clip)
    from faster_clip import ClipModel

    model = ClipModel()  # "one instance is safe to share across threads"
    parts = [paths[start : start + FEW] for start in range(0, len(paths), FEW)]

    def embed(part: Sequence[Path]) -> None:
        model.encode_image([path.read_bytes() for path in part])

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(embed, parts))

    return run


PEERS = {"fastembed": fastembed_photos, "faster-clip": faster_clip_photos}


def captions() -> list[str]:
    """Sentences as people write them about their photos."""
    lines = Path(__file__).with_name("everyday_sentences.txt").read_text("utf-8").splitlines()
    sentences = [line for line in lines if line and not line.startswith("#")]
    return list(islice(cycle(sentences), CAPTIONS))


def rate(times: list[float], count: int) -> float:
    """Items a second, the median of rounds."""
    return round(count / statistics.median(times), 1)


def row(
    name: str, seconds: dict[str, list[float]], count: int, limits: dict[str, float]
) -> dict[str, Any]:
    """One line of the table: rates, and what they are of others in the same turns."""
    jpeg, bare = seconds.get(f"jpeg {name}"), seconds.get(f"bare {name}")
    precision = FORMS.get(name, ("", "int8" if "int8" in name else "float32"))[1]
    fastest = statistics.median(bare or jpeg or [])
    found: dict[str, Any] = {
        "name": name,
        "of_gemm": round(count / fastest * GFLOP_AN_IMAGE / limits[precision], 3),
    }
    if jpeg:
        found["jpeg"] = rate(jpeg, count)
        for other in ("transformers", *PEERS):
            if other != name and f"jpeg {other}" in seconds:
                times = ratio_in_turns(seconds[f"jpeg {other}"], jpeg)
                found[f"times_{other}"] = round(times, 2)
    if bare:
        found["bare"] = rate(bare, count)
    if jpeg and bare:
        found["of_bare"] = round(ratio_in_turns(bare, jpeg), 3)
    return found


def agreement(
    models: Models, encoders: dict[str, BundleEncoder], paths: list[Path]
) -> dict[str, dict[str, float]]:
    """Least cosine to onnxruntime in float32, of photos and of sentences."""
    spec = models.float32.manifest.image
    pixels = np.stack([preprocess(decode(path), spec) for path in dict.fromkeys(paths)])
    texts = list(dict.fromkeys(captions()))
    images = {name: encoder.encode_pixels(pixels).embeddings for name, encoder in encoders.items()}
    sentences = {name: encoder.encode_texts(texts) for name, encoder in encoders.items()}
    first = next(iter(encoders))
    return {
        name: {
            "images": least_cosine(images[first], images[name]),
            "texts": least_cosine(sentences[first], sentences[name]),
        }
        for name in encoders
    }


def least_cosine(one: FloatArray, other: FloatArray) -> float:
    """Of rows that belong together."""
    return round(float((unit_rows(one) * unit_rows(other)).sum(axis=1).min()), 6)


def start_in_child(name: str, models: Models, photo: Path, threads: int) -> dict[str, float]:
    """Seconds from the first import to the first vector of a photo, and the memory held then."""
    model = models.checkpoint if name == "transformers" else bundle_of(name, models).directory
    script = Path(__file__).with_name("runtime_start.py")
    command = [sys.executable, str(script), name, str(model), str(photo), str(threads)]
    tries = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(3)
    ]
    return {
        "seconds": min(float(seconds) for seconds, _ in tries),
        "megabytes": min(float(megabytes) for _, megabytes in tries),
    }


def describe(report: dict[str, Any]) -> str:
    """Write the report as tables in Markdown."""
    limits = ", ".join(f"{name} {value:,.0f}" for name, value in report["gemm_gflops"].items())
    lines = [
        f"{report['photos']} JPEGs of {report['pixels'] / 1e6:.2f} megapixels (median), "
        f"{report['threads']} threads; one product of matrices reaches {limits} GFLOP/s",
        "",
        "| images a second | from JPEG | x transformers | x fastembed | x faster-clip "
        "| graph alone | of graph | of GEMM limit | least cosine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in report["table"]:
        cosine = report["cosine_min"].get(found["name"], {}).get("images")
        cells = [found["name"], *(found.get(key) for key in COLUMNS), cosine]
        lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
    lines += [
        "",
        "| | texts a second | least cosine | start, s | memory, MB |",
        "|---|---|---|---|---|",
    ]
    for name, texts in report["texts"].items():
        cosine = report["cosine_min"].get(name, {}).get("texts", "")
        start = report["starts"][name]
        lines.append(
            f"| {name} | {texts} | {cosine} | {start['seconds']} | {start['megabytes']:.0f} |"
        )
    lines += [f"left out: {name}: {why}" for name, why in report["left_out"].items()]
    lines += ["", *(f"{name}: {said}" for name, said in report["verdicts"].items())]
    return "\n".join(lines)


COLUMNS = (
    "jpeg",
    *(f"times_{name}" for name in ("transformers", *PEERS)),
    "bare",
    "of_bare",
    "of_gemm",
)


if __name__ == "__main__":
    main()
