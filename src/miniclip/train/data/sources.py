"""From the data section of a recipe to captions, image rows and the statistics of features.

Reading captions is done by `miniclip.datasets`, the cache by `feature_cache`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from miniclip.arrays import FloatArray
from miniclip.datasets.captions import CaptionSet, read_captions
from miniclip.errors import DatasetError
from miniclip.home import cache_dir
from miniclip.train.data.feature_cache import Request, open_cache
from miniclip.train.data.image_rows import CachedRows, ImageRows, PixelRows
from miniclip.train.data.trunk_runner import TrunkRunner, trunk_digest
from miniclip.train.evaluation import image_features
from miniclip.train.model import TwoTower
from miniclip.train.recipe import Data, Recipe, Views

MEASURED_IMAGES = 8192  # enough for the mean, deviation and covariance of features
_log = logging.getLogger("miniclip.train")


def read_data(data: Data) -> tuple[CaptionSet, CaptionSet]:
    """Read the training and the dev images; an image of the dev split is never trained on."""
    dev_name, dev_folder = data.dev_captions or data.captions, data.dev_images or data.images
    train = _read(data, data.captions, data.images, data.train_split)
    dev = _read(data, dev_name, dev_folder, data.dev_split)
    held_out = {image.name for image in dev.images}
    kept = tuple(image for image in train.images if image.name not in held_out)
    if len(kept) < len(train):
        _log.info("%d dev images were taken out of the training set", len(train) - len(kept))
    if not kept:
        raise DatasetError(
            "every training image is in the dev split too; give data.train_split or other captions"
        )
    return replace(train, images=kept[: data.limit or None]), dev


def data_fingerprint(train: CaptionSet, dev: CaptionSet) -> str:
    """Hex digest of names and captions, in order; it does not read the images."""
    content = [[[image.name, *image.captions] for image in part.images] for part in (train, dev)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def image_rows(captions: CaptionSet, model: TwoTower, recipe: Recipe, views: Views) -> ImageRows:
    """Cache what the fixed part of the tower gives, or prepare to decode where all of it learns."""
    sources = [image.source for image in captions.images]
    spec = model.image_tower.image_spec
    if not model.caches_trunk:
        return PixelRows(sources, spec, views, recipe.seed)
    threads = torch.get_num_threads()
    what = [trunk_digest(model.fixed_part), model.image_tower.source, recipe.image.trainable]
    weights = hashlib.sha256(json.dumps([*what, recipe.image.cut]).encode()).hexdigest()
    request = Request(sources, spec, views, recipe.seed, weights)
    run = TrunkRunner(model.fixed_part, spec.side, device=_device(recipe), threads=threads)
    with _progress(f"image features ({views.count} views)", len(sources)) as progress:
        cache = open_cache(cache_dir() / "trunks", request, run, threads=threads, progress=progress)
    return CachedRows(cache)


@torch.no_grad()
def measure_features(model: TwoTower, rows: ImageRows, recipe: Recipe) -> FloatArray:
    """Return features (N, F) of plain training images, evenly taken if there are many.

    DatasetError when no image can be read.
    """
    usable, device = rows.usable, _device(recipe)
    step = max(1, len(usable) // MEASURED_IMAGES)
    images = usable[::step][:MEASURED_IMAGES]
    model.eval().to(device)
    parts = []
    for some in np.array_split(images, max(1, len(images) // 64)):
        pixels = torch.from_numpy(rows.plain(some).rows)
        if len(pixels):
            parts.append(image_features(model, pixels.to(device)).cpu())
    model.cpu()
    if not parts:
        raise DatasetError(f"none of {len(images)} training images can be read; check data.images")
    features: FloatArray = torch.cat(parts).numpy()
    return features


def _read(data: Data, captions: str, images: str | None, split: str | None) -> CaptionSet:
    return read_captions(
        data.path(captions),
        data.path(images) if images else None,
        data.path(split) if split else None,
        format=data.format,
        image_column=data.image_column,
        caption_column=data.caption_column,
    )


def _device(recipe: Recipe) -> torch.device:
    wanted = recipe.machine.accelerator
    if wanted in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on stderr when a person watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
