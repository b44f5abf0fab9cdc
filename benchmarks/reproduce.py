"""Run the commands of docs/reproduce.md from end to end, at full size, without a network.

    python -m benchmarks.reproduce --work DIR [--pair NAME]... [--photos N]

The checkpoints have the architecture and the file formats of the published ones, and random
weights; the photos are those of the demo. So nothing is said about accuracy: only that every step
takes what the step before it wrote, and how long it took. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import transformers

from benchmarks.embed import positive
from benchmarks.runtime_models import crops_as_classes, write_checkpoint
from miniclip.demo import QUESTIONS, copy_photos
from miniclip.images import decode

SPLITS = {"train": slice(0, None), "dev": slice(0, 8)}  # random weights have nothing to leak
BERT_WORDS = 30_522
PROCESSOR = {"do_resize": True, "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
LIVELY = {"initializer_range": 0.15}  # with 0.02, what [CLS] says hardly depends on the words
RECIPES = Path(__file__).parent.parent / "recipes"


def main() -> None:
    """Run the chosen parts and print how long each command took."""
    options = parse()
    folder: Path = options.work
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.pair or PARTS:
        for command in PARTS[name](folder, options.photos):
            run(command)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where everything is written")
    parser.add_argument("--pair", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--photos", type=positive, default=16, help="photos to train on")
    return parser.parse_args()


def run(command: Sequence[str]) -> None:
    """Run miniclip with these arguments; stop at the first that fails."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "miniclip", *command], check=True)
    print(f"{time.perf_counter() - started:7.1f} s  miniclip {' '.join(command)}", flush=True)


def frozen_clip(folder: Path, photos: int) -> Iterator[list[str]]:
    """Fit the head of both presets on the features of CLIP ViT-B/32."""
    checkpoint, bundle, crops = (folder / name for name in ("clip", "clip-bundle", "crops"))
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    if not crops.exists():
        write_classes(crops, photos)
    if not bundle.exists():
        yield ["pull", str(checkpoint), "-o", str(bundle)]
    fit = ["fit", str(crops), "--bundle", str(bundle), "--folds", "5", "--head", "mlp"]
    for preset in ("baseline", "robust"):
        yield [*fit, "--preset", preset, "-o", str(folder / f"clip-{preset}")]
    yield [*fit, "--preset", "robust", "--compare-presets", "-o", str(folder / "clip-presets")]


def write_classes(folder: Path, photos: int) -> None:
    """Make a folder for each of some photos, with crops of it."""
    originals = folder.with_name("originals")
    crops_as_classes(sorted(copy_photos(originals))[:photos], folder)
    for crop in list(folder.glob("*.png")):
        label, _ = crop.stem.split("-")
        of_one = folder / f"photo-{label}"
        of_one.mkdir(exist_ok=True)
        crop.rename(of_one / crop.name)


def resnet_and_distilbert(folder: Path, photos: int) -> Iterator[list[str]]:
    """Train ResNet-50 and DistilBERT."""
    pixels = PROCESSOR | IMAGENET | {"size": {"shortest_edge": 224}, "crop_pct": 0.875}
    save_image_tower(
        folder / "resnet-50",
        lambda: transformers.ResNetModel(transformers.ResNetConfig()),
        pixels | {"image_processor_type": "ConvNextImageProcessor", "resample": 3},
    )
    save_text_tower(
        folder / "distilbert-base-uncased",
        lambda: transformers.DistilBertModel(transformers.DistilBertConfig(**LIVELY)),
    )
    yield from train(folder, "resnet50-distilbert", "resnet-50", "distilbert-base-uncased", photos)


def vit_and_bert(folder: Path, photos: int) -> Iterator[list[str]]:
    """Train ViT-Small and BERT-Tiny."""
    small = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    tiny = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
    pixels = PROCESSOR | HALF | {"size": {"height": 224, "width": 224}, "resample": 2}
    save_image_tower(
        folder / "vit-small",
        lambda: transformers.ViTModel(transformers.ViTConfig(**small)),
        pixels | {"image_processor_type": "ViTImageProcessor"},
    )
    save_text_tower(
        folder / "bert-tiny",
        lambda: transformers.BertModel(
            transformers.BertConfig(**tiny, **LIVELY, num_hidden_layers=2)
        ),
    )
    yield from train(folder, "vit-small-bert-tiny", "vit-small", "bert-tiny", photos)


def save_image_tower(directory: Path, make: Callable[[], Any], pixels: dict[str, Any]) -> None:
    """Write a model with random weights and the settings of its processor."""
    if directory.exists():
        return
    make().save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(pixels))


def save_text_tower(directory: Path, make: Callable[[], Any]) -> None:
    """Write a model with random weights and a tokenizer of letters, of the published size."""
    if directory.exists():
        return
    directory.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'-"
    words += [*letters, *(f"##{letter}" for letter in letters)]
    words += [f"[unused{place}]" for place in range(BERT_WORDS - len(words))]
    (directory / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    make().save_pretrained(directory)


def train(folder: Path, recipe: str, image: str, text: str, photos: int) -> Iterator[list[str]]:
    """Train by a recipe as it stands, but for a short run on a CPU; export it and ask it."""
    data = write_captions(folder / "data", photos)
    out, bundle = folder / recipe, folder / f"{recipe}-bundle"
    settings = {
        "data.root": data,
        "image.tower": folder / image,
        "text.tower": folder / text,
        "train.passes": 1,
        "train.batch": 8,
        "train.micro_batch": 8,
        "train.precision": "32-true",
        "machine.workers": 0,
    }
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    if not (out / "result.json").exists():
        yield ["train", str(RECIPES / f"{recipe}.toml"), *overrides, "-o", str(out)]
    if not bundle.exists():
        yield ["export", str(out), "-o", str(bundle)]
    captions, images = data / "flickr8k/Flickr8k.token.txt", data / "flickr8k/images"
    split = data / "flickr8k/Flickr_8k.devImages.txt"
    yield [
        *("evaluate", "retrieval", "--bundle", str(bundle), "--captions", str(captions)),
        *("--images", str(images), "--split", str(split)),
    ]


def write_captions(root: Path, photos: int) -> Path:
    """Write photos of the demo in the files and folders of Flickr8k."""
    folder = root / "flickr8k"
    if folder.exists():
        return root
    images = folder / "images"
    images.mkdir(parents=True)
    originals = {path.name: path for path in copy_photos(root / "originals")}
    names, lines = [], []
    for number, question in enumerate(islice(cycle(QUESTIONS), photos)):
        name = f"{number}_{Path(question.photo).stem}.jpg"
        image = decode(originals[question.photo])
        image.rotate(7 * (number // len(QUESTIONS))).save(images / name)
        names.append(name)
        lines += [f"{name}#{place}\t{question.sentence} ." for place in range(5)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for part, which in SPLITS.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(names[which]) + "\n")
    return root


PARTS: dict[str, Callable[[Path, int], Iterator[list[str]]]] = {
    "clip": frozen_clip,
    "resnet50-distilbert": resnet_and_distilbert,
    "vit-small-bert-tiny": vit_and_bert,
}

if __name__ == "__main__":
    main()
