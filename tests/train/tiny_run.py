"""Everything that a training run needs, so small that it ends in a second.

Pictures are one colour with some noise; a caption says the colour, so there is something to learn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from miniclip.train.logs import read_curves
from tests.tiny_bundle import COLOURS
from tests.train.tiny_checkpoints import image_checkpoint, text_checkpoint

STEPS = 15  # 4 passes of 30 images in batches of 8
NO_DROPOUT = (
    "text.dropout=false",
    "text.token_dropout=0.0",
    "text.head.dropout=0.0",
    "image.head.dropout=0.0",
)
SENTENCES = ("a photo of {}", "the picture of a {} square", "{} and {}", "a {} photo", "{} square")


def write_photos(folder: Path, count: int = 40, seed: int = 0) -> None:
    """Write photos, a Flickr8k token file with five captions each, and split files."""
    draws = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    lines, names = [], []
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        pixels = np.array(COLOURS[colour]) + draws.normal(0, 40, (24, 32, 3))
        name = f"{number:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        for place, sentence in enumerate(SENTENCES):
            lines.append(f"{name}#{place}\t{sentence.replace('{}', colour)}")
        names.append(name)
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    split = count - 10
    (folder / "train.txt").write_text("\n".join(names[:split]))
    (folder / "dev.txt").write_text("\n".join(names[split:]))


def write_recipe(
    folder: Path, *, image: str = "resnet", text: str = "bert", extra: Sequence[str] = ()
) -> Path:
    """Write photos, towers and a recipe over them; return the path of the recipe."""
    write_photos(folder / "data")
    image_tower = image_checkpoint(image, folder / "image")
    text_tower = text_checkpoint(text, folder / "text")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
name = "tiny"

[data]
root = {json.dumps(str(folder / "data"))}
captions = "captions.txt"
images = "images"
train_split = "train.txt"
dev_split = "dev.txt"

[image]
tower = {json.dumps(image_tower)}
head = {{ kind = "residual", hidden = 16 }}

[text]
tower = {json.dumps(text_tower)}
chunk = 4
token_dropout = 0.1
head = {{ kind = "linear" }}

[loss]
embedding = 8

[views]
count = 3

[train]
passes = 4
batch = 8
average = 0.9
checkpoint_every = 2
rates = {{ image_tower = 1e-3, text_tower = 1e-3, heads = 1e-2, scale = 1e-3 }}

[evaluate]
every = 5

[machine]
accelerator = "cpu"
threads = 1
"""
        + "\n".join(extra)
    )
    return recipe


def losses(run: Path) -> list[tuple[str, str]]:
    """Step and loss of every row that has one, as written."""
    return [(row["step"], row["loss"]) for row in read_curves(run) if "loss" in row]


def numbers(run: Path) -> list[float]:
    return [float(loss) for _, loss in losses(run)]
